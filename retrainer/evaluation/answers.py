"""What a model answered on the test rows, and which answers are right.

Legend: N rows, K labels. A model may know other labels than the rows have (an older champion, a class that
came later): both sets are laid side by side, so that such a row is wrong, and counts, for that model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from retrainer.errors import UserError

# In multi-label tasks a label is given above this probability.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Answers:
    """`labels`: the model's own, then those that only the rows have (probability 0).

    `targets` and `decided`: int64 [N] class indices, or bool [N, K] when `multi_label`.
    `probabilities`: float64 [N, K]. `correct`: bool [N]; in multi-label the exact set.
    """

    labels: tuple[str, ...]
    multi_label: bool
    targets: np.ndarray
    decided: np.ndarray
    probabilities: np.ndarray
    correct: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.correct)

    def only(self, chosen: np.ndarray) -> Answers:
        """The answers to the chosen rows, bool [N]."""
        parts = ("targets", "decided", "probabilities", "correct")
        return replace(self, **{name: getattr(self, name)[chosen] for name in parts})

    def names(self, row: int) -> list[str]:
        """The labels that the model gave to a row."""
        return self._names(self.decided, row)

    def wanted(self, row: int) -> list[str]:
        """The labels that the row has."""
        return self._names(self.targets, row)

    def _names(self, chosen: np.ndarray, row: int) -> list[str]:
        if not self.multi_label:
            return [self.labels[int(chosen[row])]]
        return [self.labels[int(index)] for index in np.flatnonzero(chosen[row])]


def answers(
    probabilities: np.ndarray,
    labels: tuple[str, ...],
    rows: list[list[str]],
    multi_label: bool,
    decide: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Answers:
    """Pairs probabilities [N, len(labels)] with the label names of each row.

    `decide` is the task's own (probabilities → int64 [N] or bool [N, K]); None: the likeliest class, or in
    multi-label all above THRESHOLD.

    Raises UserError for probabilities that are not finite, and for a row without exactly one label when
    the task is not multi-label.
    """
    if probabilities.shape != (len(rows), len(labels)):
        raise ValueError(f"{len(rows)} rows and {len(labels)} labels do not fit {probabilities.shape}")
    if not np.isfinite(probabilities).all():
        raise UserError("the model's probabilities are not finite: train with a lower training.learning_rate")
    strangers = sorted({name for row in rows for name in row} - set(labels))
    everything = (*labels, *strangers)
    nothing = np.zeros((len(rows), len(strangers)))
    padded = np.concatenate([probabilities.astype(np.float64), nothing], axis=1)
    targets = _targets(rows, everything, multi_label)
    decided = (decide or (_above if multi_label else _likeliest))(probabilities)
    if multi_label:
        decided = np.concatenate([decided, nothing.astype(bool)], axis=1)
    correct = (decided == targets).all(axis=1) if multi_label else decided == targets
    return Answers(everything, multi_label, targets, decided, padded, correct)


def _above(probabilities: np.ndarray) -> np.ndarray:
    return probabilities > THRESHOLD


def _likeliest(probabilities: np.ndarray) -> np.ndarray:
    return probabilities.argmax(axis=1)


def _targets(rows: list[list[str]], labels: tuple[str, ...], multi_label: bool) -> np.ndarray:
    place = {name: index for index, name in enumerate(labels)}
    targets: np.ndarray
    if multi_label:
        targets = np.zeros((len(rows), len(labels)), dtype=bool)
        for number, row in enumerate(rows):
            targets[number, [place[name] for name in row]] = True
        return targets
    for number, row in enumerate(rows):
        if len(row) != 1:
            raise UserError(
                f"test row {number + 1} has {len(row)} labels, not one; is task.multi_label meant?"
            )
    return np.array([place[row[0]] for row in rows], dtype=np.int64)
