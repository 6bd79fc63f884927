"""Token accuracy: the share of all words whose tag is right. Words that were not read count as wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

TARGET = "tags"
TITLE = "token accuracy"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2]: words with the right tag, and words."""
    from retrainer.metrics._spans import tags_of

    rows = zip(*tags_of(predictions, truth), strict=True)
    counts = [(sum(map(str.__eq__, had, (tag or "" for tag in said))), len(had)) for said, had in rows]
    return np.array(counts, np.float64).reshape(-1, 2)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2] → [...]."""
    from retrainer.metrics._classes import share

    return share(sums[..., 0], sums[..., 1])
