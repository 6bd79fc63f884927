"""Mean Dice coefficient (F1 of pixels) of the classes, over the pixels of all images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

TARGET = "mask"
TITLE = "mean Dice"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2K]: each class's intersection, then each one's union, in pixels."""
    from retrainer.metrics._masks import intersections_and_unions

    return intersections_and_unions(predictions, truth)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2K] → [...]: twice the intersection over the sum of both sides (it and the union)."""
    from retrainer.metrics._masks import mean_over_classes

    both, either = np.split(sums, 2, axis=-1)
    there = either > 0
    return mean_over_classes(2 * np.divide(both, both + either, out=np.zeros_like(both), where=there), there)
