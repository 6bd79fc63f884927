"""chrF2 of a corpus (Popović 2015), as sacrebleu computes it by default: n-grams of 1 to 6 characters without
white space, no words, recall weighing twice as much as precision.

Legend: N rows, S = 18 statistics of a row: for each n how many n-grams the prediction has, how many the
reference has, and how many match.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.metrics._ngrams import ngram_statistics

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "target_text"
TITLE = "chrF"
UNIT = "chrF"
HIGHER_IS_BETTER = True
LOWEST, HIGHEST = 0.0, 100.0
_BETA = 2


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 18] from the columns `prediction` and `target_text`."""
    from sacrebleu.metrics import CHRF

    return ngram_statistics(CHRF(), predictions, truth)


def value(sums: np.ndarray) -> np.ndarray:
    """[..., 18] → [...], from 0 to 100: precision and recall are averaged over the n that both texts have."""
    import numpy as np

    predicted, reference, matches = (sums[..., place::3] for place in range(3))
    exists = (predicted > 0) & (reference > 0)
    orders = np.maximum(exists.sum(axis=-1), 1)

    def average(counts: np.ndarray) -> np.ndarray:
        shares = np.divide(matches, counts, out=np.zeros_like(matches), where=exists)
        return shares.sum(axis=-1) / orders

    precision, recall = average(predicted), average(reference)
    below = _BETA**2 * precision + recall
    above = (1 + _BETA**2) * precision * recall
    return 100 * np.divide(above, below, out=np.zeros_like(below), where=below > 0)
