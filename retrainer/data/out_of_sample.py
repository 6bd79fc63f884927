"""What a linear model says of each row that was not fitted to it: leave-one-out answers of ridge regression.

Legend: N rows, D dimensions, K classes.
"""

from __future__ import annotations

import numpy as np

# Weight of the squared coefficients, in units of the vectors' mean sum of squares along one axis.
_PENALTY = 0.1
_TEMPERATURES = np.geomspace(0.02, 1.0, 40)


class LeaveOneOut:
    """Ridge regression on vectors [N, D], for any targets of these rows.

    The answer to a row of the model that was fitted to all others follows from the fit to all rows:
    y - (y - f) / (1 - h), h the row's own weight in its answer f (Allen 1974; Golub, Heath, Wahba 1979).
    """

    def __init__(self, vectors: np.ndarray, penalty: float = _PENALTY) -> None:
        self.vectors = vectors - vectors.mean(axis=0)
        rows, dimensions = vectors.shape
        fewer_rows = rows < dimensions
        inner = self.vectors @ self.vectors.T if fewer_rows else self.vectors.T @ self.vectors
        inner.flat[:: len(inner) + 1] += penalty * max(float(np.trace(inner)) / len(inner), 1e-6)
        # (X X' + p)^-1 X = X (X' X + p)^-1: the smaller of the two is inverted.
        inverse = np.linalg.inv(inner)
        self.weights = inverse @ self.vectors if fewer_rows else self.vectors @ inverse
        self.own = ((self.weights * self.vectors).sum(axis=1) + 1 / rows).clip(0, 0.999)[:, None]

    def scores(self, codes: np.ndarray, classes: int) -> np.ndarray:
        """float32 [N, K] for classes int [N]: about 1 for the class that the rows like it have, else 0."""
        targets = np.eye(classes, dtype=np.float32)[codes]
        share = targets.mean(axis=0)
        targets -= share
        fitted = self.weights @ (self.vectors.T @ targets)
        answer: np.ndarray = (fitted - self.own * targets) / (1 - self.own) + share
        return answer


def probabilities(scores: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """float64 [N, K]: softmax of the scores, at the temperature that makes the given classes likeliest."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(codes)), codes]

    def loss(temperature: float) -> float:
        return float((np.log(np.exp(shifted / temperature).sum(axis=1)) - own / temperature).mean())

    raised = np.exp(shifted.astype(np.float64) / min(_TEMPERATURES, key=loss))
    return raised / raised.sum(axis=1, keepdims=True)
