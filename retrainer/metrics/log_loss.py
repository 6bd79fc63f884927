"""Log loss: the mean of -ln(probability of the truth), in multi-label over all pairs of a row and a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.metrics._classes import classes, share

if TYPE_CHECKING:
    import pyarrow as pa

TARGET = "labels"
TITLE = "log loss"
UNIT = "nats"
HIGHER_IS_BETTER = False
LOWEST, HIGHEST = 0.0, float("inf")

# What stands for a probability of 0, whose logarithm there is not.
_TINY = 1e-15


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """[N, 2]: the row's loss (in multi-label the mean of its classes'), and 1."""
    found = classes(predictions, truth)
    if found.multi_label:
        of_truth = np.where(found.targets, found.probabilities, 1 - found.probabilities)
        losses = -np.log(np.maximum(of_truth, _TINY)).mean(axis=1)
    else:
        losses = -np.log(np.maximum(found.probabilities[found.targets], _TINY))
    return np.stack([losses, np.ones(len(losses))], axis=1)


def value(sums: np.ndarray) -> np.ndarray:
    return share(sums[..., 0], sums[..., 1])
