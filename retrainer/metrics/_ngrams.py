"""What BLEU and chrF share: each row's n-gram counts, as sacrebleu takes them from its two texts.

Legend: N rows, S statistics of a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def ngram_statistics(metric: Any, predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, S]: what `metric`, of `sacrebleu.metrics`, counts in each row.

    The columns are `prediction` and `target_text`; a missing text counts as an empty one.
    """
    import numpy as np

    hypotheses = [text or "" for text in predictions["prediction"].to_pylist()]
    references = [text or "" for text in truth["target_text"].to_pylist()]
    if not hypotheses:  # sacrebleu refuses an empty corpus
        hypotheses, references, count = [""], [""], 0
    else:
        count = len(hypotheses)
    # The counts of each segment, which sacrebleu's own bootstrap sums too; the lock pins its version.
    found = metric._extract_corpus_statistics(hypotheses, [references])
    return np.asarray(found, dtype=np.float64)[:count]
