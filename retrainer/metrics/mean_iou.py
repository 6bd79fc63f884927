"""Mean intersection over union (Jaccard index) of the classes of pixels, over the pixels of all images.

Equal to the mean of the IoU that torchvision's reference computes from its confusion matrix
(references/segmentation/utils.py, `ConfusionMatrix.compute`), where the test rows have every class.
"""

from __future__ import annotations

import numpy as np

from retrainer.metrics import _masks

TARGET = "mask"
TITLE = "mean IoU"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0
# One function for all metrics of these pixels, so that each mask is read once for them.
statistics = _masks.intersections_and_unions


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2K] → [...]: over the classes whose union is not empty."""
    both, either = np.split(sums, 2, axis=-1)
    there = either > 0
    return _masks.mean_over_classes(np.divide(both, either, out=np.zeros_like(both), where=there), there)
