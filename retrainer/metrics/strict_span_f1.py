"""Strict span F1: as span F1, but of spans that begin and end as the tags' scheme says (IOB2, IOE2, IOBES).

Equal to seqeval's (1.2.2) `f1_score(…, mode="strict")` by the scheme that the tags show: see
`_spans.strict_spans`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "tags"
TITLE = "strict span F1"
UNIT = "share"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 1.0


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """[N, 3]: spans found rightly, found, and there."""
    from retrainer.metrics._spans import span_counts, strict_finder, tags_of

    said, had = tags_of(predictions, truth)
    return span_counts(said, had, strict_finder(had))


def value(sums: np.ndarray) -> np.ndarray:
    from retrainer.metrics._spans import f1

    return f1(sums)
