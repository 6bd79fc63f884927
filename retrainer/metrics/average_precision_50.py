"""Average precision of boxes that overlap a true one by half (IoU 0.50): Pascal VOC's and COCO's AP50."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.metrics import _detection

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "boxes"
TITLE = "average precision (IoU 0.50)"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0
# It ranks the boxes of all rows: `value_of_rows` computes it for weighted rows, exactly.
RESAMPLES_ROWS = True


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, S]: each image's boxes as triples; see `retrainer.metrics._detection`."""
    return _detection.statistics(predictions, truth, (0.5,))


def value_of_rows(statistics: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Statistics [N, S] and weights [..., N] of the rows → the metric [...]; 0 without a true box."""
    return _detection.value_of_rows(statistics, weights, 1)
