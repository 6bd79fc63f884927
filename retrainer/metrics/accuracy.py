"""Accuracy: the share of rows that are right; in multi-label those whose exact set of classes is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.metrics._classes import classes, share

if TYPE_CHECKING:
    import pyarrow as pa

TARGET = "labels"
TITLE = "accuracy"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """[N, 2]: right or not, and 1."""
    correct = classes(predictions, truth).correct
    return np.stack([correct, np.ones(len(correct))], axis=1).astype(np.float64)


def value(sums: np.ndarray) -> np.ndarray:
    return share(sums[..., 0], sums[..., 1])
