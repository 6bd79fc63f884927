"""Root-mean-square error, in units of the target: large errors count for more. Equal to scikit-learn's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "target"
TITLE = "root-mean-square error"
UNIT = "units of the target"
HIGHER_IS_BETTER = False
LOWEST, HIGHEST = 0.0, float("inf")


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 3]: the square of the row's error, 0, and 1. Of two columns the gate would take squares of
    0 and 1 for hits of a share, which the root of their mean is not.
    """
    import numpy as np

    from retrainer.metrics._numbers import pairs

    predicted, target = pairs(predictions, truth)
    rows = len(target)
    return np.stack([(predicted - target) ** 2, np.zeros(rows), np.ones(rows)], axis=1)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 3] → [...]."""
    import numpy as np

    from retrainer.metrics._numbers import mean

    return np.sqrt(mean(sums))
