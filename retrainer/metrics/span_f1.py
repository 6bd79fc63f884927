"""Span F1: F1 over all spans of all rows (micro). A span is right if its type, first and last word are.

Equal to seqeval's (1.2.2) `f1_score` by default, which is conlleval's: see `retrainer.formats.tags.spans`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "tags"
TITLE = "span F1"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """[N, 3]: spans found rightly, found, and there."""
    from retrainer.formats.tags import spans
    from retrainer.metrics._spans import span_counts, tags_of

    return span_counts(*tags_of(predictions, truth), spans)


def value(sums: np.ndarray) -> np.ndarray:
    from retrainer.metrics._spans import f1

    return f1(sums)
