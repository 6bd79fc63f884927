"""Which rows teach the model most: uncertain ones, and such as differ from each other.

Legend: N rows, D feature width, K classes.
"""

from __future__ import annotations

import numpy as np


def margins(probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
    """float64 [N], 0 where the model wavers most, 1 where it is sure: the distance between the two likeliest
    classes; of several labels a row, that of the least certain one from a coin's."""
    if multi_label:
        return np.abs(2.0 * probabilities - 1).min(axis=1)
    two = -np.partition(-probabilities.astype(np.float64), 1, axis=1)[:, :2]
    return np.asarray(two[:, 0] - two[:, 1])


def badge(
    features: np.ndarray, probabilities: np.ndarray, count: int, multi_label: bool, seed: int
) -> np.ndarray:
    """int64 [count]: rows by k-means++ on the gradients of the last layer, in the order they were drawn.

    J. T. Ash, C. Zhang, A. Krishnamurthy, J. Langford, A. Agarwal: Deep batch active learning by diverse,
    uncertain gradient lower bounds (ICLR 2020). The gradient of the loss by the head's weights, were the
    model's own answer the label, is the outer product of `probabilities` minus that answer and the features:
    long where the model is unsure. It is never made; inner products follow from those of the two.
    """
    answer = (
        probabilities > 0.5 if multi_label else np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
    )
    errors = (probabilities - answer).astype(np.float32)
    squares = (errors**2).sum(axis=1) * (features**2).sum(axis=1)
    random = np.random.default_rng(seed)
    chosen = [int(squares.argmax())]
    nearest: np.ndarray = np.full(len(features), np.inf, np.float32)
    while len(chosen) < min(count, len(features)):
        last = chosen[-1]
        inner = (errors @ errors[last]) * (features @ features[last])
        nearest = np.minimum(nearest, np.maximum(0, squares + squares[last] - 2 * inner))
        nearest[chosen] = 0
        chosen.append(_drawn(nearest, chosen, random))
    return np.array(chosen)


def _drawn(weights: np.ndarray, chosen: list[int], random: np.random.Generator) -> int:
    """A row with a chance by its weight; where none has any, the first that was not chosen."""
    total = weights.sum(dtype=np.float64)
    if total > 0:
        return int(np.searchsorted(weights.cumsum(dtype=np.float64), random.random() * total, side="right"))
    free: np.ndarray = np.ones(len(weights), bool)
    free[chosen] = False
    return int(free.argmax())
