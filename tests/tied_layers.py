"""A module whose weights are tied: the body of a plug-in, which a model is read back into."""

from __future__ import annotations

import torch
from torch import nn


class Tied(nn.Module):
    """Two layers that are one: the second reads through the first's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("scratch", torch.ones(2), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(pixels.flatten(1)).relu())
