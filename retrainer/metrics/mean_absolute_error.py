"""Mean absolute error: by how much a prediction is wrong, in units of the target. Equal to scikit-learn's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "target"
TITLE = "mean absolute error"
UNIT = "units of the target"
HIGHER_IS_BETTER = False
LOWEST, HIGHEST = 0.0, float("inf")


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2]: the row's error without its sign, and 1."""
    import numpy as np

    from retrainer.metrics._numbers import pairs

    predicted, target = pairs(predictions, truth)
    return np.stack([np.abs(predicted - target), np.ones(len(target))], axis=1)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2] → [...]."""
    from retrainer.metrics._numbers import mean

    return mean(sums)
