"""What a probe looks at, and how a rule is judged on rows that it was not read off.

Legend: N rows, V values of a feature, K classes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from retrainer.data.task_columns import TaskColumns

# A class is given away by rules that answer it on so many held-out rows at least.
LEAST_ROWS = 10
# Of what is said about a class too seldom to be wrong, this share must be right, beyond what its share in the
# rows gives anyway.
LEAST_PRECISION = 0.95
# The share of the class's rows that the rule must find: of something that is no content (a file's format) and
# of something that may be (a colour, a word).
NO_CONTENT, CONTENT = 0.5, 0.9
# Values times classes; what has more of them is no simple rule.
_MOST_CELLS = 20_000_000
# A number's bins: of so many rows to fit or more, and no more of them.
_ROWS_A_BIN, _MOST_BINS = 4, 128


@dataclass(frozen=True)
class Sample:
    """Training rows of one class each. `codes` int64 [N] are places in `names`; `fit` bool [N] marks the rows
    that rules are read off, and no group or cluster of near-duplicates is on both sides."""

    table: pa.Table
    columns: TaskColumns
    codes: np.ndarray
    names: tuple[str, ...]
    fit: np.ndarray

    def first(self, most: int) -> Sample:
        """The first rows of the sample, which are in an order of chance."""
        if len(self.codes) <= most:
            return self
        return Sample(self.table.slice(0, most), self.columns, self.codes[:most], self.names, self.fit[:most])


@dataclass(frozen=True)
class Shortcut:
    """`what` gives `classes` away. Of `rows` held-out rows its rule has the share `accuracy` right, all other
    classes taken for one, where always the commonest answer has `majority`. `gain`: of the rows that
    the commonest class gets wrong, the share it has right. `certain`: nothing but a leak looks so."""

    what: str
    classes: tuple[str, ...]
    accuracy: float
    majority: float
    rows: int
    gain: float = 0.0
    certain: bool = False

    def said(self, all_classes: int) -> str:
        if not self.classes:  # of a target that is no class
            return f"{self.what} in {self.accuracy:.0%} of {self.rows:,} training rows"
        named = ", ".join(f"'{name}'" for name in self.classes[:3]) + (", …" if len(self.classes) > 3 else "")
        which = f"all {all_classes} classes" if len(self.classes) == all_classes else named
        return (
            f"{self.what} tells {which} (right on {self.accuracy:.1%} of {self.rows:,} held-out rows,"
            f" the commonest answer on {self.majority:.1%})"
        )


def codes_of(values: Sequence[Hashable]) -> np.ndarray:
    """int64 [N]: equal values get equal numbers."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def binned(values: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """int64 [N]: which of as many equally frequent bins each number is in, edges by the rows to fit."""
    bins = int(np.clip(fit.sum() // _ROWS_A_BIN, 2, _MOST_BINS))
    edges = np.unique(np.quantile(values[fit], np.linspace(0, 1, bins + 1)[1:-1])) if fit.any() else []
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def judged(rows: Sample, what: str, values: np.ndarray, least: float) -> Shortcut | None:
    """What a feature, int64 [N] in 0 to V, gives away: for each of its values the rule answers the class that
    is commonest with it. `least` is the share of a class's rows to be found. None if no class is."""
    classes, different = len(rows.names), int(values.max(initial=0)) + 1
    if different * classes > _MOST_CELLS:
        return None
    counts: np.ndarray = np.zeros((different, classes), np.int64)
    np.add.at(counts, (values[rows.fit], rows.codes[rows.fit]), 1)
    commonest = counts.sum(axis=0).argmax()
    rule = np.where(counts.any(axis=1), counts.argmax(axis=1), commonest)
    truth = rows.codes[~rows.fit]
    return of_answers(rows, what, rule[values[~rows.fit]], truth, int(commonest), least)


def of_answers(
    rows: Sample, what: str, answers: np.ndarray, truth: np.ndarray, commonest: int, least: float
) -> Shortcut | None:
    """The shortcut of a rule's answers to held-out rows, both int64 [n]; -1 where it says nothing."""
    if not len(truth):
        return None
    right = answers == truth
    classes = len(rows.names)
    hits, said = (np.bincount(each[each >= 0], minlength=classes) for each in (truth[right], answers))
    had = np.bincount(truth, minlength=classes)
    given_away = np.flatnonzero(
        (hits >= LEAST_ROWS) & (hits >= least * had) & precise(hits, said, had / len(truth))
    )
    if not len(given_away):
        return None
    majority = float((truth == commonest).mean())
    gain = (float(right.mean()) - majority) / max(1 - majority, 1e-9)
    of_these = [np.where(np.isin(each, given_away), each, classes) for each in (answers, truth)]
    alone = float((of_these[0] == of_these[1]).mean())
    most = float(np.bincount(of_these[1]).max() / len(truth))
    return Shortcut(what, tuple(rows.names[code] for code in given_away), alone, most, len(truth), gain)


def precise(hits: np.ndarray, said: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Whether `hits` of `said` answers is far above the class's `share` of all rows."""
    precision = hits / np.maximum(said, 1)
    return (precision - share >= LEAST_PRECISION * (1 - share)) & (share < 1)
