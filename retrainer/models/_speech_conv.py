"""The network of `speech_conv`. Legend: B rows, T frames, M mel bands, D width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Block(nn.Module):
    """[B, D, T] → the same: convolution, BatchNorm, ReLU, dropout, added to what came in."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        return states + self.dropout(self.norm(self.convolution(states)).relu())


class SpeechConv(nn.Module):
    """Log-mel [B, T, M] and frames [B] → states [B, T / stride, D] and frames [B]; 0 behind a row's end."""

    def __init__(
        self,
        mels: int,
        width: int,
        blocks: int,
        kernel: int,
        stride: int,
        recurrent: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.outputs = 2 * recurrent if recurrent else width
        self.first = nn.Conv1d(mels, width, kernel, stride, padding=kernel // 2)
        self.norm = nn.BatchNorm1d(width)
        self.blocks = nn.ModuleList(Block(width, kernel, dropout) for _ in range(blocks))
        self.recurrent = None
        if recurrent:
            self.recurrent = nn.GRU(width, recurrent, batch_first=True, bidirectional=True)

    def forward(self, bands: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames = (lengths - 1) // self.stride + 1
        states = self.norm(self.first(bands.transpose(1, 2))).relu()
        there = (torch.arange(states.shape[2], device=frames.device) < frames[:, None])[:, None]
        for block in self.blocks:
            # So that a row's end looks the same whatever it is padded to.
            states = block(states * there)
        states = (states * there).transpose(1, 2)
        if self.recurrent is not None and len(states):
            states = self._recur(states, frames)
        return states, frames

    def _recur(self, states: Tensor, frames: Tensor) -> Tensor:
        assert self.recurrent is not None
        packed = pack_padded_sequence(states, frames.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=states.shape[1])[
            0
        ]
