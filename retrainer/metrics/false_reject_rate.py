"""The share of genuine pairs that stay below the model's threshold, which was chosen on other identities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.metrics import _pair_scores

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = _pair_scores.TARGET
TITLE = "false reject rate at the stored threshold"
UNIT = "share"
HIGHER_IS_BETTER = False
LOWEST, HIGHEST = 0.0, 1.0
WITHIN_UNITS = 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2]: of each row the genuine pairs that are rejected, and all of them."""
    import numpy as np

    _, rejected, _, genuine = _pair_scores.decided(predictions, truth).T
    return np.stack([rejected, genuine], axis=1)


def units(truth: pa.Table) -> np.ndarray:
    """int64 [N]: the identity of each row."""
    return _pair_scores.identities(truth)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2] → [...]; 0 without genuine pairs."""
    return _pair_scores.share(sums[..., 0], sums[..., 1])
