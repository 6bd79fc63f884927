"""What the metrics of regression share. Legend: N rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def pairs(predictions: pa.Table, truth: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The columns `prediction` and `target`, float64 [N] each."""
    import numpy as np

    return (
        np.asarray(predictions["prediction"].to_numpy(), dtype=np.float64),
        np.asarray(truth["target"].to_numpy(), dtype=np.float64),
    )


def mean(sums: np.ndarray) -> np.ndarray:
    """The first sum over the last one, the number of rows: [..., S] → [...]; 0 for no rows."""
    import numpy as np

    total, rows = sums[..., 0], sums[..., -1]
    return np.divide(total, rows, out=np.zeros_like(total), where=rows > 0)
