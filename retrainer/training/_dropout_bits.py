"""Dropout by a counter: whether a value is kept follows from a seed and its place alone.

So the backward pass needs no stored mask. The Triton kernels draw the same bits (`_dropout_kernels`). The
mixing function is `lowbias32` (Wellons, hash-prospector, public domain), with a second key added half way;
each stream of places (a head of a row, say) has two keys, mixed from the seed and its number.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIX_ONE, MIX_TWO, STREAM = 0x7FEB352D, 0x846CA68B, 0x9E3779B9
_WORD = 0xFFFFFFFF


def threshold(dropout: float) -> int:
    """Values with fewer bits than this are dropped; of 2³²."""
    return min(round(dropout * 2**32), _WORD)


def kept(seed: Tensor, streams: int, places: int, dropout: float) -> Tensor:
    """Bool [streams, places]: what `seed` (int64, one value) keeps."""
    low, high = seed.view(()) & _WORD, (seed.view(()) >> 32) & _WORD
    number = torch.arange(streams, device=seed.device, dtype=torch.int64)
    first = mix((number * STREAM & _WORD) ^ low, high)
    second = mix(first ^ high, low)
    place = torch.arange(places, device=seed.device, dtype=torch.int64)
    return mix(place[None] ^ first[:, None], second[:, None]) >= threshold(dropout)


def mix(word: Tensor, key: Tensor) -> Tensor:
    """A 32-bit word and a key (int64 tensors) → 32 bits that look drawn."""
    word = _times(word ^ (word >> 16), MIX_ONE)
    word = (word ^ (word >> 15)) + key & _WORD
    word = _times(word, MIX_TWO)
    return word ^ (word >> 16)


def _times(word: Tensor, factor: int) -> Tensor:
    """Modulo 2³²; the product of the halves keeps within 63 bits."""
    return ((word * (factor & 0xFFFF)) + ((word * (factor >> 16) & _WORD) << 16)) & _WORD
