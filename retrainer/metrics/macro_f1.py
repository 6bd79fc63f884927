"""Macro-F1: the mean of F1 over the classes that have rows.

A class's F1 is 2 · right / (given + had): the harmonic mean of precision and recall.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.metrics._classes import classes, share

if TYPE_CHECKING:
    import pyarrow as pa

TARGET = "labels"
TITLE = "macro F1"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """[N, 3K]: whether each class was given rightly, was given, is had."""
    found = classes(predictions, truth)
    counts = (found.decided & found.targets, found.decided, found.targets)
    return np.concatenate(counts, axis=1).astype(np.float64)


def value(sums: np.ndarray) -> np.ndarray:
    right, given, had = np.split(sums, 3, axis=-1)
    each = share(2 * right, given + had)
    return share((each * (had > 0)).sum(axis=-1), (had > 0).sum(axis=-1))
