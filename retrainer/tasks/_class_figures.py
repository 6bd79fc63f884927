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
        mine = triples[..., :1] == number
        own = np.where(mine, triples, 0.0)
        own[..., 0] = mine[..., 0]  # the only class that there is
        having = (mine[..., 0] & (triples[..., 1] == _detection.TRUTH)).any(axis=1)
        rows = np.arange(len(statistics))
        title = average_precision_50.TITLE
        figures[name] = ClassFigure(title, average_precision_50, rows, own.reshape(statistics.shape), having)
    return figures
