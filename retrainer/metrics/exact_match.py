"""Exact match: the share of rows whose text is the expected one, but for runs of white space.

Case and punctuation count: SQuAD's metric of this name (Rajpurkar et al. 2016, arXiv:1606.05250) drops both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "target_text"
TITLE = "exact match"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2]: equal or not, and 1."""
    import numpy as np

    texts = (predictions["prediction"].to_pylist(), truth["target_text"].to_pylist())
    said, expected = ([" ".join((text or "").split()) for text in column] for column in texts)
    equal = np.array([one == other for one, other in zip(said, expected, strict=True)], np.float64)
    return np.stack([equal, np.ones(len(equal))], axis=1)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2] → [...]."""
    from retrainer.metrics._classes import share

    return share(sums[..., 0], sums[..., 1])
