"""BLEU of a corpus (Papineni et al. 2002), as sacrebleu computes it by default (Post 2018, arXiv:1804.08771):
one reference, mixed case, tokenizer 13a, exponential smoothing.

Legend: N rows, S = 10 statistics of a row: tokens of the prediction, tokens of the reference, then for
n-grams of 1 to 4 tokens how many match, and for each n how many the prediction has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.metrics._ngrams import ngram_statistics

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "target_text"
TITLE = "BLEU"
UNIT = "BLEU"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 100.0
_ORDERS = 4


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 10] from the columns `prediction` and `target_text`."""
    from sacrebleu.metrics import BLEU

    # `force` only silences a warning about texts that look tokenised.
    return ngram_statistics(BLEU(force=True), predictions, truth)


def value(sums: np.ndarray) -> np.ndarray:
    """[..., 10] → [...], from 0 to 100; 0 where nothing matches."""
    import numpy as np

    predicted, reference = sums[..., 0], sums[..., 1]
    matches, counts = sums[..., 2 : 2 + _ORDERS], sums[..., 2 + _ORDERS :]
    # Each precision of 0 counts as half of the one before it that was 0: 1/2, 1/4, … of one match.
    smoothed = 0.5 ** np.cumsum(matches == 0, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precisions = np.where(matches > 0, matches, smoothed) / counts
        mean = np.exp(np.log(100.0 * precisions).sum(axis=-1) / _ORDERS)
        brevity = np.where(predicted < reference, np.exp(1 - reference / predicted), 1.0)
        score = np.minimum(brevity * mean, HIGHEST)  # rounding may go a trifle beyond
    exists = (matches > 0).any(axis=-1) & (counts > 0).all(axis=-1)
    return np.where(exists, score, 0.0)
