"""The share of impostor pairs that reach the model's threshold, which was chosen on other identities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.metrics import _pair_scores

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = _pair_scores.TARGET
TITLE = "false accept rate at the stored threshold"
UNIT = "share"
HIGHER_IS_BETTER = False
LOWEST, HIGHEST = 0.0, 1.0
WITHIN_UNITS = 0.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2]: of each row the impostor pairs that are accepted, and all of them."""
    import numpy as np

    accepted, _, impostors, _ = _pair_scores.decided(predictions, truth).T
    return np.stack([accepted, impostors], axis=1)


def units(truth: pa.Table) -> np.ndarray:
    """int64 [N]: the identity of each row."""
    return _pair_scores.identities(truth)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2] → [...]; 0 without impostor pairs."""
    return _pair_scores.share(sums[..., 0].clip(0), sums[..., 1])
