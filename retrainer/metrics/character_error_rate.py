"""Character error rate: the fewest characters to substitute, delete and insert, a character of the reference.

Equal to jiwer's (4.0) with its default transforms: sums of all rows are divided, not rates averaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "target_text"
TITLE = "character error rate"
UNIT = "share"
HIGHER_IS_BETTER = False
LOWEST, HIGHEST = 0.0, float("inf")


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2]: edits from the column `target_text` to `prediction`, and characters in the former."""
    from retrainer.metrics._edits import characters, edit_counts

    references = [characters(text) for text in truth["target_text"].to_pylist()]
    return edit_counts(references, [characters(text) for text in predictions["prediction"].to_pylist()])


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2] → [...]; the number of insertions where no reference has a character, as in jiwer."""
    from retrainer.metrics._edits import error_rate

    return error_rate(sums)
