"""Probabilities of rows that the model which gives them was not trained on, by cross-validation.

Legend: N rows, F features, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy, softmax


def out_of_fold(features: np.ndarray, given: np.ndarray, folds: int, penalty: float, seed: int) -> np.ndarray:
    """float32 [N, K] by logistic regression on standardised features [N, F], folds of equal class shares.

    `penalty` is the weight of the squared coefficients beside the mean loss.
    """
    from sklearn.model_selection import StratifiedKFold

    told: np.ndarray = np.zeros((len(given), int(given.max()) + 1), np.float32)
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for others, held in split.split(given, given):
        mean, std = features[others].mean(axis=0), features[others].std(axis=0) + 1e-2
        fitted = torch.from_numpy((features[others] - mean) / std)
        weights, bias = fit(fitted, torch.from_numpy(given[others]), told.shape[1], penalty)
        asked = torch.from_numpy((features[held] - mean) / std)
        told[held] = softmax(asked @ weights + bias, dim=1).numpy()
        print(f"fold: accuracy {(told[held].argmax(axis=1) == given[held]).mean():.4f}", flush=True)
    return told


def fit(
    features: torch.Tensor, given: torch.Tensor, classes: int, penalty: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [F, K] and bias [K] of least penalised loss, by L-BFGS."""
    weights = torch.zeros(features.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    search = torch.optim.LBFGS([weights, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = cross_entropy(features @ weights + bias, given) + penalty * weights.square().sum()
        value.backward()
        return value

    search.step(loss)
    return weights.detach(), bias.detach()
