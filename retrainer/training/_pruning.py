"""Rows that the network has learned, left out of some epochs (InfoBatch: Qin et al. 2024, arXiv:2303.04947).

Legend: N rows of the split, B rows of a batch.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

# Of the epochs: the last ones have every row.
_WHOLE_AT_THE_END = 1 / 8


class Pruning:
    """Each row's last loss, and which rows train in the epoch under way.

    Of the rows with less than the mean loss, `share` are left out of an epoch, drawn anew each time. The
    others of them weigh more, so that the gradient is that of all rows in expectation.
    """

    def __init__(self, share: float, count: int, device: torch.device) -> None:
        self.share = share
        self.losses = torch.zeros(count, device=device)
        self.losses_before = self.losses  # as the epoch began
        self._weights = torch.ones(count, device=device)

    def begin(self, epoch: int, epochs: int, draws: torch.Generator, resumed: bool) -> np.ndarray:
        """The numbers of the rows that train in `epoch` (from 1) of `epochs`; `resumed`: it is under way."""
        if not resumed:
            self.losses_before = self.losses.clone()
        count = len(self.losses)
        if not 1 < epoch <= epochs - math.ceil(_WHOLE_AT_THE_END * epochs):
            self._weights.fill_(1.0)
            return np.arange(count)
        low = self.losses_before < self.losses_before.mean()
        self._weights = torch.where(low, 1 / (1 - self.share), 1.0)
        left_out = low.cpu() & (torch.rand(count, generator=draws) < self.share)
        return torch.nonzero(~left_out)[:, 0].numpy()

    def weigh(self, rows: Tensor, losses: Tensor) -> Tensor:
        """Remembers the losses [B] of the rows with these numbers; returns them with their weights."""
        self.losses[rows] = losses.detach().float()
        return losses * self._weights[rows]

    def snapshot(self) -> dict[str, Tensor]:
        return {"losses": self.losses, "losses_before": self.losses_before}

    def restore(self, kept: dict[str, Tensor]) -> None:
        self.losses = kept["losses"].to(self.losses.device)
        self.losses_before = kept["losses_before"].to(self.losses.device)
