"""Classes and slices of the compared rows, the model beside the champion.

Legend: N test rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer.evaluation.opponents import Opponent
from retrainer.evaluation.slices import CLASS, Rows
from retrainer.gate.evidence import Part
from retrainer.gate.measured import Measured
from retrainer.gate.pair import Pair
from retrainer.gate.scores import Scores

if TYPE_CHECKING:
    from retrainer.tasks._protocol import ClassFigure, Judged


@dataclass(frozen=True)
class Parts:
    """See `retrainer.gate.evidence.Evidence` for the last three."""

    parts: tuple[Part, ...] = ()
    appeared: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    untested: int = 0


def parts_of(
    judged: Judged, opponent: Opponent, unseen: np.ndarray | None, slices: Rows, scores: Scores
) -> Parts:
    """`opponent`: the champion on all test rows; `unseen` [N]: those by which the two are compared, None:
    all. `slices`: the rows of each value of the declared slices."""
    if not opponent.pairs:
        return Parts()
    kept = np.ones(len(judged.test), bool) if unseen is None else unseen
    mine, its = judged.predictor.labels, opponent.labels
    common = {name for name in mine if name in set(its)}
    classes = tuple(_classes(judged, opponent, kept, common))
    return Parts(
        parts=(*classes, *_slices(opponent, kept, slices, scores, bool(classes))),
        appeared=tuple(name for name in mine if name not in common),
        vanished=tuple(name for name in its if name not in common),
        untested=len(common) - len(classes),
    )


def _classes(judged: Judged, opponent: Opponent, kept: np.ndarray, common: set[str]) -> Iterator[Part]:
    task = judged.predictor.task
    if not hasattr(task, "class_figures") or opponent.predictions is None:
        return
    first, second = (task.class_figures(one, judged.test) for one in opponent.predictions)
    for name, figure in first.items():
        if name in common and (figure.having & kept[figure.rows]).any():
            yield _class_part(name, figure, second[name], kept)


def _class_part(name: str, mine: ClassFigure, its: ClassFigure, kept: np.ndarray) -> Part:
    chosen = kept[mine.rows]
    width = max(one.statistics.shape[1] for one in (mine, its))
    sides = (Measured(one.metric, _widened(one.statistics[chosen], width)) for one in (mine, its))
    return Part(CLASS, name, mine.title, int(mine.having[chosen].sum()), Pair(*sides))


def _widened(statistics: np.ndarray, width: int) -> np.ndarray:
    """[N, S] → [N, width], with zeros behind: of boxes the one model may have found more in a row."""
    return np.pad(statistics, ((0, 0), (0, width - statistics.shape[1])))


def _slices(
    opponent: Opponent, kept: np.ndarray, slices: Rows, scores: Scores, has_classes: bool
) -> Iterator[Part]:
    """Those of the classes have figures of their own, where the task has classes."""
    pair = opponent.pairs[scores.gate_metric]
    for by, values in slices.items():
        for name, rows in values.items() if by != CLASS or not has_classes else ():
            chosen = rows[kept[rows]]
            if len(chosen):
                yield Part(by, name, scores.gate_title, len(chosen), pair.only(chosen))
