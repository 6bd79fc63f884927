"""Micro-F1: F1 over all pairs of a row and a class. With one class a row it is the accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.metrics._classes import classes, share

if TYPE_CHECKING:
    import pyarrow as pa

TARGET = "labels"
TITLE = "micro F1"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """[N, 3]: how many classes were given rightly, were given, are had."""
    found = classes(predictions, truth)
    counts = (found.decided & found.targets, found.decided, found.targets)
    return np.stack([one.sum(axis=1) for one in counts], axis=1).astype(np.float64)


def value(sums: np.ndarray) -> np.ndarray:
    right, given, had = (sums[..., place] for place in range(3))
    return share(2 * right, given + had)
