"""Word error rate: the fewest words to substitute, delete and insert, a word of the reference.

Equal to jiwer's (4.0) with its default transforms: sums of all rows are divided, not rates averaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "target_text"
TITLE = "word error rate"
UNIT = "share"
HIGHER_IS_BETTER = False
LOWEST, HIGHEST = 0.0, float("inf")


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2]: edits from the column `target_text` to `prediction`, and words in the former."""
    from retrainer.metrics._edits import edit_counts, words

    references = [words(text) for text in truth["target_text"].to_pylist()]
    return edit_counts(references, [words(text) for text in predictions["prediction"].to_pylist()])


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2] → [...]; the number of insertions where no reference has a word, as in jiwer."""
    from retrainer.metrics._edits import error_rate

    return error_rate(sums)
