"""Equal error rate of verification: at the threshold where as many impostor pairs are accepted as genuine
pairs are rejected, the share of either.

Between two thresholds both rates are taken as straight lines, as on a drawn ROC curve. Equal to what
scikit-learn's `roc_curve` gives for the same scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.metrics import _pair_scores

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = _pair_scores.TARGET
TITLE = "equal error rate"
UNIT = "share"
HIGHER_IS_BETTER = False
LOWEST, HIGHEST = 0.0, 1.0
WITHIN_UNITS = 0.5
# One function for all metrics of the histograms, so that it is called once for them all.
statistics = _pair_scores.statistics


def units(truth: pa.Table) -> np.ndarray:
    """int64 [N]: the identity of each row."""
    return _pair_scores.identities(truth)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2 B] → [...]; 0 without genuine or without impostor pairs."""
    import numpy as np

    accepted, rejected = _pair_scores.rates(sums)
    gap = rejected - accepted  # rises from -1 to 1
    after = np.maximum((gap >= 0).argmax(-1), 1)[..., None]

    def at(rate: np.ndarray, place: np.ndarray) -> np.ndarray:
        return np.take_along_axis(rate, place, axis=-1)[..., 0]

    before, behind = at(gap, after - 1), at(gap, after)
    share = np.divide(-before, behind - before, out=np.zeros_like(before), where=behind > before)
    low, high = at(accepted, after - 1), at(accepted, after)
    return np.where(_pair_scores.exists(sums), low + share * (high - low), 0.0)
