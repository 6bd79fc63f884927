"""Loss and accuracy of what has a target for each token: translation and sequence tagging.

Legend: B rows, T tokens, K classes. A target below 0 counts for nothing.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from retrainer.tasks._cross_entropy import CrossEntropy


def loss(outputs: Tensor, targets: Tensor, label_smoothing: float, mean_tokens: float) -> Tensor:
    """Logits [B, T, K] and targets [B, T] → [B]: a row's cross entropy over a mean row's number of tokens.

    So the mean over rows is nats a token of the whole data, and every token weighs the same in it.
    """
    each = CrossEntropy.apply(outputs.flatten(0, 1), targets.flatten(), label_smoothing)
    return each.view(targets.shape).sum(dim=1) / mean_tokens


def accuracy(outputs: Tensor, targets: Tensor) -> np.ndarray:
    """float64 [B]: the share of a row's tokens whose likeliest class is the target."""
    there = targets >= 0
    right = (outputs.argmax(dim=2) == targets) & there
    shares = right.sum(dim=1) / there.sum(dim=1).clamp(min=1)
    return shares.double().cpu().numpy()
