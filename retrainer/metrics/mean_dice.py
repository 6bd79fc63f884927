"""Mean Dice coefficient (F1 of pixels) of the classes, over the pixels of all images."""

from __future__ import annotations

import numpy as np

from retrainer.metrics import _masks

TARGET = "mask"
TITLE = "mean Dice"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0
# One function for all metrics of these pixels, so that each mask is read once for them.
statistics = _masks.intersections_and_unions


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2K] → [...]: twice the intersection over the sum of both sides (it and the union)."""
    both, either = np.split(sums, 2, axis=-1)
    there = either > 0
    shares = 2 * np.divide(both, both + either, out=np.zeros_like(both), where=there)
    return _masks.mean_over_classes(shares, there)
