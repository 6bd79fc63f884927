"""What `speaker_encoder` computes. Legend: B rows, T frames, M mel bands, W windows of all rows, D width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrainer.models._network import Batch

# Frames of a window, and from one to the next: 1.6 s, and 1.3 windows a second.
WINDOW, STEP = 160, 77
# A last window of fewer frames of sound is left out, unless it is the only one.
_FEWEST = 120


class SpeakerEncoder(nn.Module):
    """Windows [W, T, M] → vectors [W, D] of length 1, of positive numbers."""

    def __init__(self, mels: int, hidden: int, layers: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(mels, hidden, layers, batch_first=True)
        self.linear = nn.Linear(hidden, width)

    def forward(self, windows: Tensor) -> Tensor:
        _, (state, _) = self.lstm(windows)
        return functional.normalize(self.linear(state[-1]).relu(), dim=1)


def mean_of_windows(module: nn.Module, batch: Batch) -> Tensor:
    """The mean of a row's windows [B, D], of length 1."""
    sound, frames = batch["audio"], batch["lengths"]
    counts = windows_of(frames)
    most = int(counts.max()) if len(counts) else 1
    needed = (most - 1) * STEP + WINDOW
    padded = functional.pad(sound, (0, 0, 0, max(0, needed - sound.shape[1])))
    windows = padded.unfold(1, WINDOW, STEP)[:, :most].transpose(2, 3)  # [B, most, WINDOW, M]
    there = torch.arange(most, device=counts.device) < counts[:, None]
    made = module(windows[there])
    rows = there.nonzero()[:, 0]
    sums = made.new_zeros(len(sound), made.shape[1]).index_add(0, rows, made)
    return functional.normalize(sums, dim=1)


def windows_of(frames: Tensor) -> Tensor:
    """Frames of each row [B] → its windows, one at least (`compute_partial_slices` of Resemblyzer 0.1.4)."""
    steps = (frames - WINDOW + STEP + 1).clamp(min=1)
    counts = (steps + STEP - 1) // STEP
    begins = (counts - 1) * STEP
    too_short = (frames - 1 - begins < _FEWEST) & (counts > 1)
    return counts - too_short.to(counts.dtype)
