"""Heads that tasks share. Legend: B rows, D feature width, K outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


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


class ScaledHead(LinearHead):
    """Features [B, D] → outputs [B, 1], in standard deviations from the mean of the targets; keeps both."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, dropout: float, mean: float, deviation: float) -> None:
        super().__init__(width, 1, dropout)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("deviation", torch.tensor(deviation))
