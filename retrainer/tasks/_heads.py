"""Heads that tasks share. Legend: B rows, D feature width, K outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Squared distances of vectors of length 1 are 4 at most: too close together for probabilities, which a
# calibration then makes fit.
_SCALE = 10.0
_NEVER = -1e4


class LinearHead(nn.Linear):
    """Features [B, D] → outputs [B, K], with dropout before it in training."""

    def __init__(self, width: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__(width, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, batch: Any = None) -> Tensor:  # noqa: ARG002 (a head may read it)
        # Of a small network, a module that does nothing is a hundredth of a step.
        return super().forward(self.dropout(features) if self.dropout.p else features)


class PassOn(nn.Module):
    """The body's outputs as they are: for bodies that are whole networks."""

    def forward(self, features: Any, batch: Any = None) -> Any:  # noqa: ARG002 (a head may read it)
        return features


class PrototypeHead(nn.Module):
    """Features [B, D] → outputs [B, K]: minus the squared distance to the mean of each class's examples,
    times _SCALE (Snell et al. 2017, arXiv:1703.05175).

    Features are taken from the middle of the classes and made 1 long, before means and distances (Wang
    et al. 2019, arXiv:1911.04623). A class without an example is never the answer.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("middle", torch.zeros(width))
        self.register_buffer("prototypes", torch.zeros(outputs, width))
        self.register_buffer("absent", torch.zeros(outputs))

    middle: Tensor
    prototypes: Tensor
    absent: Tensor  # [K]: 0, or a number that makes a class without an example the least likely

    def forward(self, features: Tensor, batch: Any = None) -> Tensor:  # noqa: ARG002 (a head may read it)
        rows = self._normalised(features)
        # |a - b|² = |a|² + |b|² - 2 ab: never the differences themselves, [B, K, D], which is large.
        lengths = rows.square().sum(1)[:, None] + self.prototypes.square().sum(1)
        apart = (lengths - 2 * rows @ self.prototypes.T).clamp(min=0)
        return self.absent - _SCALE * apart

    def learn(self, features: Tensor, classes: Tensor) -> None:
        """From the examples' features [N, D] and classes int64 [N]."""
        members = torch.nn.functional.one_hot(classes, len(self.prototypes)).T.to(features.dtype)  # [K, N]
        counts = members.sum(1)
        there = counts > 0
        shares = members / counts.clamp(min=1)[:, None]
        # Of each class alike, however many examples it has.
        self.middle.copy_((shares @ features)[there].mean(0))
        self.prototypes.copy_(shares @ self._normalised(features))
        self.absent.copy_(torch.where(there, 0.0, _NEVER))

    def _normalised(self, features: Tensor) -> Tensor:
        return torch.nn.functional.normalize(features.float() - self.middle, dim=1)


class ScaledHead(LinearHead):
    """Features [B, D] → outputs [B, 1], in standard deviations from the mean of the targets; keeps both."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, dropout: float, mean: float, deviation: float) -> None:
        super().__init__(width, 1, dropout)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("deviation", torch.tensor(deviation))
