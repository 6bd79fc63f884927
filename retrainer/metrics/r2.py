"""R², the coefficient of determination: the share of the targets' variance that the predictions explain.

1 is right everywhere, 0 as good as the mean of these very rows, below 0 worse. Equal to scikit-learn's
`r2_score`; where all targets are one number, it does not exist and is 0 here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "target"
TITLE = "R²"
UNIT = "share of the variance"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = float("-inf"), 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 4]: the square of the row's error; its target and the square of that, from the targets'
    mean, so that sums of large numbers lose no digit; and 1.
    """
    import numpy as np

    from retrainer.metrics._numbers import pairs

    predicted, target = pairs(predictions, truth)
    centred = target - (target.mean() if len(target) else 0.0)
    return np.stack([(predicted - target) ** 2, centred, centred**2, np.ones(len(target))], axis=1)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 4] → [...]."""
    import numpy as np

    errors, total, squares, rows = (sums[..., column] for column in range(4))
    spread = squares - np.divide(total**2, rows, out=np.zeros_like(total), where=rows > 0)
    # What rounding leaves of no spread at all is none.
    exists = spread > 1e-12 * squares
    return 1 - np.divide(errors, spread, out=np.ones_like(errors), where=exists)
