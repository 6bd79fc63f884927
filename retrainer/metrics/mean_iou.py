"""Mean intersection over union (Jaccard index) of the classes of pixels, over the pixels of all images.

Equal to the mean of the IoU that torchvision's reference computes from its confusion matrix
(references/segmentation/utils.py, `ConfusionMatrix.compute`), where the test rows have every class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

TARGET = "mask"
TITLE = "mean IoU"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2K]: each class's intersection, then each one's union, in pixels."""
    from retrainer.metrics._masks import intersections_and_unions

    return intersections_and_unions(predictions, truth)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2K] → [...]: over the classes whose union is not empty."""
    from retrainer.metrics._masks import mean_over_classes

    both, either = np.split(sums, 2, axis=-1)
    there = either > 0
    return mean_over_classes(np.divide(both, either, out=np.zeros_like(both), where=there), there)
