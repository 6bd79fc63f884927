"""Average precision of boxes, the mean over IoU thresholds 0.50, 0.55, …, 0.95: COCO's headline figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.metrics import _detection

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "boxes"
TITLE = "average precision (IoU 0.50 to 0.95)"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0
# It ranks the boxes of all rows: `value_of_rows` computes it for weighted rows, exactly.
RESAMPLES_ROWS = True
_COUNT = 10


def _thresholds() -> tuple[float, ...]:
    """As pycocotools makes them: some differ from the decimal numbers in the last bit."""
    import numpy as np

    return tuple(np.linspace(0.5, 0.95, _COUNT))


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, S]: each image's boxes as triples; see `retrainer.metrics._detection`."""
    return _detection.statistics(predictions, truth, _thresholds())


def value_of_rows(statistics: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Statistics [N, S] and weights [..., N] of the rows → the metric [...]; 0 without a true box."""
    return _detection.value_of_rows(statistics, weights, _COUNT)
