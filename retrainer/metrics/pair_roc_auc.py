"""The area under the ROC curve of verification: how often a genuine pair scores higher than an impostor pair.

Equal scores count half. Equal to scikit-learn's `roc_auc_score` for the same scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.metrics import _pair_scores

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = _pair_scores.TARGET
TITLE = "area under the ROC curve of pairs"
UNIT = "share"
HIGHER_IS_BETTER = True
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
    # Trapezoids over the share of impostors that each step rejects.
    accepts: np.ndarray = 1 - rejected
    falls = -np.diff(accepted, axis=-1)
    area = (falls * (accepts[..., 1:] + accepts[..., :-1]) / 2).sum(-1)
    return np.where(_pair_scores.exists(sums), area, 0.0)
