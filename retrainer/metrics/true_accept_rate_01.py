"""The share of genuine pairs that are accepted at the lowest threshold which accepts at most 1% of the
impostor pairs: TAR at a FAR of 0.01.

No point between two thresholds is assumed: equal to the highest `tpr` of scikit-learn's `roc_curve` whose
`fpr` is at most 0.01, for the same scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.metrics import _pair_scores

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = _pair_scores.TARGET
TITLE = "true accept rate at 1% false accepts"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0
WITHIN_UNITS = 0.5
_FALSE_ACCEPTS = 0.01
# One function for all metrics of the histograms, so that it is called once for them all.
statistics = _pair_scores.statistics


def units(truth: pa.Table) -> np.ndarray:
    """int64 [N]: the identity of each row."""
    return _pair_scores.identities(truth)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2 B] → [...]; 0 without genuine or without impostor pairs."""
    import numpy as np

    accepted, rejected = _pair_scores.rates(sums)
    first = (accepted <= _FALSE_ACCEPTS).argmax(-1)[..., None]
    found = 1 - np.take_along_axis(rejected, first, axis=-1)[..., 0]
    return np.where(_pair_scores.exists(sums), found, 0.0)
