"""Pixel accuracy: the share of all pixels whose class is right. Ignored ones do not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

TARGET = "mask"
TITLE = "pixel accuracy"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2]: pixels with the right class, and pixels."""
    from retrainer.metrics._masks import confusions

    rows = [(counts[:, :-1].trace(), counts.sum()) for counts in confusions(predictions, truth)]
    return np.array(rows, np.float64).reshape(-1, 2)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2] → [...]."""
    from retrainer.metrics._classes import share

    return share(sums[..., 0], sums[..., 1])
