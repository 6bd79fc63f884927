"""What a linear model says of each row that was not fitted to it: leave-one-out answers of ridge regression.

Legend: N rows, D dimensions, K classes.
"""

from __future__ import annotations

import numpy as np

# Weights of the squared coefficients that are tried; the rows left out choose.
_PENALTIES = tuple(10.0**power for power in np.arange(-1.0, 4.5, 0.5))
_TEMPERATURES = np.geomspace(0.02, 1.0, 40)


class LeaveOneOut:
    """Ridge regression on vectors [N, D], for any targets of these rows.

    The answer to a row of the model that was fitted to all others follows from the fit to all rows:
    y - (y - f) / (1 - h), h the row's own weight in its answer f (Allen 1974; Golub, Heath, Wahba 1979).
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self.mean = vectors.mean(axis=0)
        centred = vectors - self.mean
        if len(vectors) < vectors.shape[1]:
            values, sides = np.linalg.eigh(centred @ centred.T)
            self.turned = sides * np.sqrt(np.maximum(values, 0))
        else:
            values, axes = np.linalg.eigh(centred.T @ centred)
            self.turned = centred @ axes
        self.values = np.maximum(values, 0).astype(np.float64)

    def scores(self, codes: np.ndarray, classes: int) -> np.ndarray:
        """float32 [N, K] for classes int [N], by the penalty whose answers come nearest to them."""
        targets = np.eye(classes, dtype=np.float32)[codes]
        made = (self.scores_at(codes, classes, penalty) for penalty in _PENALTIES)
        return min(made, key=lambda scores: float(((scores - targets) ** 2).mean()))

    def scores_at(self, codes: np.ndarray, classes: int, penalty: float) -> np.ndarray:
        """float32 [N, K]: about 1 for the class that the rows like it have, and 0 for others."""
        targets = np.eye(classes, dtype=np.float32)[codes]
        share = targets.mean(axis=0)
        centred = targets - share
        shrunk = (1 / (self.values + penalty)).astype(np.float32)
        own = ((self.turned**2) @ shrunk + 1 / len(codes)).clip(0, 0.999)[:, None]
        fitted = self.turned @ (shrunk[:, None] * (self.turned.T @ centred))
        answer: np.ndarray = (fitted - own * centred) / (1 - own) + share
        return answer

    def answers(self, codes: np.ndarray, classes: int) -> np.ndarray:
        """int64 [N]: the class that the model of all other rows answers."""
        return self.scores(codes, classes).argmax(axis=1)


def probabilities(scores: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """float64 [N, K]: softmax of the scores, at the temperature that makes the given classes likeliest."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(codes)), codes]

    def loss(temperature: float) -> float:
        return float((np.log(np.exp(shifted / temperature).sum(axis=1)) - own / temperature).mean())

    raised = np.exp(shifted.astype(np.float64) / min(_TEMPERATURES, key=loss))
    return raised / raised.sum(axis=1, keepdims=True)
