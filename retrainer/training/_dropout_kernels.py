"""`_dropout_bits` in Triton: the same bits for the same seed, stream and place."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]


@triton.jit
def _mix(word, key):
    word = (word ^ (word >> 16)) * 0x7FEB352D
    word = (word ^ (word >> 15)) + key
    word = word * 0x846CA68B
    return word ^ (word >> 16)


@triton.jit
def stream_keys(seeds, index, stream):
    """Both keys of a stream, by the seed at `index` of `seeds` (int64)."""
    seed = tl.load(seeds + index)
    low, high = (seed & 0xFFFFFFFF).to(tl.uint32), ((seed >> 32) & 0xFFFFFFFF).to(tl.uint32)
    first = _mix((stream.to(tl.uint32) * 0x9E3779B9) ^ low, high)
    return first, _mix(first ^ high, low)


@triton.jit
def kept(place, first, second, below):
    """Whether the values at these places are kept; `below` is the threshold of 2³²."""
    return _mix(place.to(tl.uint32) ^ first, second) >= below.to(tl.uint32)
