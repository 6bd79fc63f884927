"""Ways to choose the rows to label next, beside the one that is shipped.

Legend: N rows of the pool, D feature width, K classes. Each gives `count` row numbers.
"""

# ruff: noqa: ARG001 (all have one signature)
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from retrainer.suggest.choose import badge, margins

# features [N, D], probabilities [N, K], count, seed → rows
Selection = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]
_NEIGHBOURS = 20


def random(features: np.ndarray, probabilities: np.ndarray, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(len(features))[:count]


def least_margin(features: np.ndarray, probabilities: np.ndarray, count: int, seed: int) -> np.ndarray:
    return np.argsort(margins(probabilities, False), kind="stable")[:count]


def most_entropy(features: np.ndarray, probabilities: np.ndarray, count: int, seed: int) -> np.ndarray:
    entropy = -(probabilities * np.log(probabilities + 1e-12)).sum(axis=1)
    return np.argsort(-entropy, kind="stable")[:count]


def badged(features: np.ndarray, probabilities: np.ndarray, count: int, seed: int) -> np.ndarray:
    return badge(features, probabilities, count, False, seed)


def clustered_margin(features: np.ndarray, probabilities: np.ndarray, count: int, seed: int) -> np.ndarray:
    """One row of the least margin of each of `count` clusters (k-means) of the least certain rows, ten times
    as many as are asked for: after G. Citovsky et al.: Batch active learning at scale (NeurIPS 2021)."""
    from sklearn.cluster import KMeans

    margin = margins(probabilities, False)
    candidates = np.argsort(margin, kind="stable")[: 10 * count]
    cluster = KMeans(count, n_init=1, max_iter=20, random_state=seed).fit_predict(features[candidates])
    return np.array([candidates[cluster == each][0] for each in np.unique(cluster)])[:count]


def typical(features: np.ndarray, probabilities: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The most typical row of each of `count` clusters: G. Hacohen, A. Dekel, D. Weinshall: Active learning
    on a budget (TypiClust, ICML 2022); clusters of the pool alone."""
    from sklearn.cluster import MiniBatchKMeans

    unit = features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-9)
    cluster = MiniBatchKMeans(count, n_init=1, random_state=seed, batch_size=2048).fit_predict(unit)
    found = []
    for each in np.unique(cluster):
        rows = np.flatnonzero(cluster == each)
        nearest = np.sort(2 - 2 * unit[rows] @ unit[rows].T, axis=1)[:, 1 : _NEIGHBOURS + 1]
        found.append(rows[nearest.mean(axis=1).argmin()] if len(rows) > 1 else rows[0])
    return np.array(found)[:count]


def with_random(selection: Selection) -> Selection:
    """Half of the rows by the selection, half at random."""

    def mixed(features: np.ndarray, probabilities: np.ndarray, count: int, seed: int) -> np.ndarray:
        chosen = selection(features, probabilities, count // 2, seed)
        others = np.setdiff1d(
            random(features, probabilities, len(features), seed), chosen, assume_unique=True
        )
        return np.concatenate(
            [chosen, np.random.default_rng(seed).permutation(others)[: count - len(chosen)]]
        )

    return mixed


SELECTIONS: dict[str, Selection] = {
    "random": random,
    "margin": least_margin,
    "entropy": most_entropy,
    "badge": badged,
    "clustered margin": clustered_margin,
    "typiclust": typical,
    "badge, half at random": with_random(badged),
}
