"""A paired test for figures that no exact test knows: macro-F1, micro-F1, log loss.

Rows are drawn with replacement, for both models the same, and the gain is measured on every draw. How far the
draws stray from the gain that was seen stands for how far that may stray from the true one: the basic
bootstrap. Plain quantiles of the gain (the percentile bootstrap) and the gain in units of its standard error
pass equal models more often than agreed on few rows (docs/decisions tells the figures).
Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), sections 4.4 and 5.2.

Legend: N rows, K labels, B blocks of rows that are drawn together (up to 4,096 rows each its own), D draws,
F sums of one model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retrainer.evaluation.answers import Answers
from retrainer.evaluation.intervals import blocks_of
from retrainer.evaluation.metrics import class_counts, log_losses

DRAWS = 4000
# Fewer rows that tell the two apart say nothing of how far the gain could have strayed.
FEWEST_TELLING = 10
_AT_ONCE = 250
# Gains nearer than this are ties, which speak against the candidate.
_TIE = 1e-12

# Sums over rows [D, F] → the figure [D].
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PairedFigures:
    """A figure of two models on the same rows. `gain`: by how much the candidate's is better.

    `telling`: rows that count differently for the two; `p_value` is 1 where they are too few.
    """

    candidate: float
    other: float
    gain: float
    standard_error: float
    telling: int
    p_value: float


def bootstrap_test(
    metric: str, candidate: Answers, other: Answers, margin: float = 0.0, draws: int = DRAWS, seed: int = 0
) -> PairedFigures:
    """One-sided: is the candidate's `metric` better (`margin` 0), or not worse by `margin` or more?

    The answers are to the same rows. The same arguments give the same p-value, which is a multiple of
    1 / (draws + 1).
    """
    pair = pair_of(metric, candidate, other, seed)
    (mine,), (its,) = (pair.statistic(one.sum(axis=0, keepdims=True)) for one in (pair.first, pair.second))
    gain = pair.sign * (mine - its)
    strays = _drawn_gains(pair, draws, seed) - gain
    as_far = int(np.sum(strays >= gain + margin - _TIE))
    telling = _telling(metric, candidate, other)
    p_value = (1 + as_far) / (1 + draws) if telling >= FEWEST_TELLING else 1.0
    return PairedFigures(float(mine), float(its), float(gain), float(strays.std()), telling, p_value)


@dataclass(frozen=True)
class Pair:
    """The sums of two models' figure over blocks of rows. `sign`: -1 where less is better."""

    statistic: Statistic
    first: np.ndarray  # [B, F]
    second: np.ndarray  # [B, F of the other]
    sign: float

    def gains(self, weights: np.ndarray) -> np.ndarray:
        """How often each block was drawn [D, B] → by how much the first is better [D]."""
        return self.sign * (self.statistic(weights @ self.first) - self.statistic(weights @ self.second))


def pair_of(metric: str, candidate: Answers, other: Answers, seed: int) -> Pair:
    blocks = blocks_of(candidate.rows, seed)
    # In multi-label log loss is the mean over (row, label) pairs: by one number of labels for both.
    scale = 1 / len(candidate.labels) if candidate.multi_label else 1.0
    first, second = (_sums(metric, one, blocks, scale) for one in (candidate, other))
    return Pair(_STATISTICS[metric], first, second, -1.0 if metric == "log_loss" else 1.0)


def _drawn_gains(pair: Pair, draws: int, seed: int) -> np.ndarray:
    blocks = len(pair.first)
    random = np.random.default_rng(seed)
    found = []
    for start in range(0, draws, _AT_ONCE):
        weights = random.multinomial(blocks, np.full(blocks, 1 / blocks), size=min(_AT_ONCE, draws - start))
        found.append(pair.gains(weights.astype(np.float64)))
    return np.concatenate(found)


def _sums(metric: str, answers: Answers, blocks: np.ndarray, scale: float) -> np.ndarray:
    return log_losses(answers, blocks) * [1, scale] if metric == "log_loss" else class_counts(answers, blocks)


def _telling(metric: str, candidate: Answers, other: Answers) -> int:
    """Rows that count differently for the two: by what was decided, or by the probability of the truth."""
    if metric == "log_loss":
        each = np.arange(candidate.rows)
        losses = (log_losses(one, each)[:, 1] for one in (candidate, other))
        return int(np.sum(np.not_equal(*losses)))
    place = {label: n for n, label in enumerate(dict.fromkeys((*candidate.labels, *other.labels)))}
    first, second = (_by_place(one, place) for one in (candidate, other))
    return int(np.sum((first != second).any(axis=1)))


def _by_place(answers: Answers, place: dict[str, int]) -> np.ndarray:
    """What was decided, comparable between models that know other labels: [N, 1], or [N, all labels]."""
    places = np.array([place[label] for label in answers.labels])
    if not answers.multi_label:
        return places[answers.decided][:, None]
    laid: np.ndarray = np.zeros((answers.rows, len(place)), dtype=bool)
    laid[:, places] = answers.decided
    return laid


def _log_loss(totals: np.ndarray) -> np.ndarray:
    return np.asarray(totals[:, 1] / totals[:, 0])


def _micro_f1(totals: np.ndarray) -> np.ndarray:
    right, given, support = np.split(totals, 3, axis=1)
    return np.asarray(2 * right.sum(axis=1) / np.maximum((given + support).sum(axis=1), 1))


def _macro_f1(totals: np.ndarray) -> np.ndarray:
    """The mean over the classes that have rows."""
    right, given, support = np.split(totals, 3, axis=1)
    each = 2 * right / np.maximum(given + support, 1)
    held = support > 0
    return np.asarray((each * held).sum(axis=1) / np.maximum(held.sum(axis=1), 1))


_STATISTICS: dict[str, Statistic] = {"log_loss": _log_loss, "micro_f1": _micro_f1, "macro_f1": _macro_f1}
