"""The figure by which each class is compared with the champion's: `Task.class_figures`.

Legend: N rows, S statistics of a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.metrics import _detection, accuracy, average_precision_50
from retrainer.metrics._classes import classes
from retrainer.tasks._protocol import ClassFigure

if TYPE_CHECKING:
    import pyarrow as pa

_TRIPLE = 3  # class, score or mark, value: see `retrainer.metrics._detection`


def recalls(predictions: pa.Table, truth: pa.Table) -> dict[str, ClassFigure]:
    """Of the rows that have the class, the share to which it was given: their accuracy in this class."""
    found = classes(predictions, truth)
    figures = {}
    for place, name in enumerate(found.names):
        rows = np.flatnonzero(found.targets[:, place])
        if len(rows):
            given, ones = found.decided[rows, place], np.ones(len(rows))
            statistics = np.stack([given, ones], axis=1).astype(np.float64)
            figures[name] = ClassFigure("recall", accuracy, rows, statistics, ones.astype(bool))
    return figures


def average_precisions(predictions: pa.Table, truth: pa.Table) -> dict[str, ClassFigure]:
    """At an overlap of 0.5, over all rows: a box of the class where there is none counts against it."""
    statistics = average_precision_50.statistics(predictions, truth)
    triples = statistics.reshape(len(statistics), -1, _TRIPLE)
    figures = {}
    for number, name in enumerate(_detection.class_names(truth), start=1):
        own = _only(triples, number)
        having = (own[..., 1] == _detection.TRUTH).any(axis=1)
        rows, flat = np.arange(len(own)), own.reshape(len(own), own.shape[1] * _TRIPLE)
        figures[name] = ClassFigure(average_precision_50.TITLE, average_precision_50, rows, flat, having)
    return figures


def _only(triples: np.ndarray, number: int) -> np.ndarray:
    """Of the triples [N, M, 3] those of one class, as the only class that there is, first in each row and as
    narrow as the row with most of them allows: [N, W, 3], zeros behind."""
    mine = triples[..., 0] == number
    row, column = mine.nonzero()
    place = mine.cumsum(axis=1)[row, column] - 1
    own = np.zeros((len(triples), int(mine.sum(axis=1).max(initial=0)), _TRIPLE))
    own[row, place] = triples[row, column]
    own[row, place, 0] = 1
    return own
