"""Triton kernel of `_first_convolution`: the weight's gradient, a product over all positions of all images.

With 16 channels innermost the four inputs side by side under a row of the filter are 64 values in a row of
memory, so both matrices are read as they lie. A program takes every so many-th tile of positions; the sums of
the programs, in float32, are added in a fixed order.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from retrainer.training._first_convolution import CHANNELS, SIDE

_OUTPUTS, _POSITIONS, _WARPS, _STAGES = 64, 64, 4, 3
_PROGRAMS = 132  # one for each multiprocessor of an H100 or H200


@triton.jit
def _product(
    gradient, x, partial, positions, height, width, outputs, programs,
    OUTPUTS: tl.constexpr, RUN: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """Partial gradients [programs, 4, outputs, RUN]: of each row of the filter."""
    block, place = tl.program_id(0), tl.program_id(1)
    output = block * OUTPUTS + tl.arange(0, OUTPUTS)
    run = tl.arange(0, RUN)
    stride = (width + 3) * 16
    first = tl.zeros((OUTPUTS, RUN), tl.float32)
    second = tl.zeros((OUTPUTS, RUN), tl.float32)
    third = tl.zeros((OUTPUTS, RUN), tl.float32)
    fourth = tl.zeros((OUTPUTS, RUN), tl.float32)
    for tile in range(place, tl.cdiv(positions, POSITIONS), programs):
        position = tile * POSITIONS + tl.arange(0, POSITIONS)
        there = (position < positions)[:, None]
        line, right = position // width, position % width
        start = ((line // height * (height + 3) + line % height) * (width + 3) + right).to(tl.int64) * 16
        slope = tl.trans(
            tl.load(
                gradient + position.to(tl.int64)[:, None] * outputs + output[None, :], mask=there, other=0.0
            )
        )
        under = x + start[:, None] + run[None, :]
        first = tl.dot(slope, tl.load(under, mask=there, other=0.0), first)
        second = tl.dot(slope, tl.load(under + stride, mask=there, other=0.0), second)
        third = tl.dot(slope, tl.load(under + 2 * stride, mask=there, other=0.0), third)
        fourth = tl.dot(slope, tl.load(under + 3 * stride, mask=there, other=0.0), fourth)
    at = partial + (place * 4 * outputs + output)[:, None] * RUN + run[None, :]
    tl.store(at, first)
    tl.store(at + outputs * RUN, second)
    tl.store(at + 2 * outputs * RUN, third)
    tl.store(at + 3 * outputs * RUN, fourth)


def fits(gradient: Tensor) -> bool:
    """Whether there is a kernel for so many outputs in this format."""
    return gradient.shape[1] % _OUTPUTS == 0 and gradient.dtype in (torch.bfloat16, torch.float16)


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """Float32 [O, 16, 4, 4]."""
    count, outputs, height, width = gradient.shape
    positions, run = count * height * width, SIDE * CHANNELS
    blocks = outputs // _OUTPUTS
    programs = max(1, min(_PROGRAMS // blocks, triton.cdiv(positions, _POSITIONS)))
    partial = torch.empty((programs, SIDE, outputs, run), dtype=torch.float32, device=x.device)
    _product[(blocks, programs)](
        gradient, x, partial, positions, height, width, outputs, programs,
        OUTPUTS=_OUTPUTS, RUN=run, POSITIONS=_POSITIONS, num_warps=_WARPS, num_stages=_STAGES,
    )  # fmt: skip
    return partial.sum(0).view(SIDE, outputs, SIDE, CHANNELS).permute(1, 3, 0, 2)
