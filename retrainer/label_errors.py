"""Labels that there is good reason to doubt, by confident learning (Northcutt, Jiang, Chuang, JAIR 70, 2021).

Legend: N rows, K classes.
"""

from __future__ import annotations

import numpy as np


def suspected(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """int64 [n]: the rows whose given label is suspected to be wrong, the most suspect first.

    `probabilities` [N, K] must come from a model that was not trained on these rows; `given` is int [N]. The
    threshold of a class is the mean probability that the rows given it get for it. A row is suspected when
    another class reaches its threshold, and with a higher probability than the row's given class has. The
    least margin of the given class over the likeliest other comes first; of equal margins the first row.

    The paper takes the likeliest class of those that reach their thresholds. That differs only in rows whose
    likeliest class of all stays below its threshold: here these need another above the given class, too.
    """
    own = probabilities[np.arange(len(given)), given].astype(np.float64)
    every: np.ndarray = probabilities.astype(np.float64)
    reached = (every >= _thresholds(own, given, probabilities.shape[1])) & (every > own[:, None])
    margin = own - every.max(axis=1)
    found = np.flatnonzero(reached.any(axis=1))
    return found[np.argsort(margin[found], kind="stable")]


def _thresholds(own: np.ndarray, given: np.ndarray, classes: int) -> np.ndarray:
    """float64 [K]; a class that no row is given is never reached."""
    counts = np.bincount(given, minlength=classes)
    sums = np.bincount(given, weights=own, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
