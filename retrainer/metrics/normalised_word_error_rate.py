"""Word error rate of English once case, punctuation and spellings that sound alike no longer count.

Both texts go through Whisper's own normaliser (Radford et al. 2022, arXiv:2212.04356, appendix C) as
transformers has it: lower case, no punctuation, numbers in digits, no `um`, `won't` as `will not`. So a
network that writes " Seven." is right about "seven". British and American spellings stay two, as their table
comes with a tokenizer only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "target_text"
TITLE = "normalised word error rate"
UNIT = "share"
HIGHER_IS_BETTER = False
LOWEST, HIGHEST = 0.0, float("inf")


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2]: edits from the column `target_text` to `prediction`, and words in the former."""
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    from retrainer.metrics._edits import edit_counts, words

    normal = EnglishTextNormalizer({})
    truths, found = (
        [words(normal(text or "")) for text in texts.to_pylist()]
        for texts in (truth["target_text"], predictions["prediction"])
    )
    return edit_counts(truths, found)


def value(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2] → [...]; the number of insertions where no reference has a word, as in jiwer."""
    from retrainer.metrics._edits import error_rate

    return error_rate(sums)
