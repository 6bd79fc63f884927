"""Expected calibration error: the gap between how sure answers are and how often they are right.

In 15 bins of confidence of equal width; in multi-label of every class's probability and its presence.
Source: Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.metrics._classes import classes, share

if TYPE_CHECKING:
    import pyarrow as pa

TARGET = "labels"
TITLE = "calibration error"
UNIT = "share"
HIGHER_IS_BETTER = False
LOWEST, HIGHEST = 0.0, 1.0

BINS = 15


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """[N, BINS + 1]: confidence minus being right, by bin; and how many answers the row has."""
    return of_confidences(*classes(predictions, truth).confidences)


def of_confidences(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The same from confidences and outcomes [N, answers of a row]."""
    rows, answers = confidence.shape
    places = np.arange(rows)[:, None] * BINS + bins_of(confidence)
    gaps = np.bincount(places.ravel(), (confidence - right).ravel(), minlength=rows * BINS)
    return np.concatenate([gaps.reshape(rows, BINS), np.full((rows, 1), float(answers))], axis=1)


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence, from 0; a bin has its upper bound, not its lower one."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def value(sums: np.ndarray) -> np.ndarray:
    return share(np.abs(sums[..., :BINS]).sum(axis=-1), sums[..., BINS])
