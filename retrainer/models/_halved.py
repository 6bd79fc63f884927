"""Max pooling of 2×2 whose gradient is added up in a fixed order, which PyTorch's own is not on a GPU.

Legend: B rows, C channels, H height, W width.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

_KERNELS = find_spec("triton") is not None


def halved(x: Tensor) -> Tensor:
    """[B, C, H, W] → [B, C, H/2, W/2], channels innermost; an odd row or column at the end is left out."""
    if x.is_cuda and _KERNELS and not torch.compiler.is_compiling():  # the compiler writes its own
        made: Tensor = _ByKernels.apply(x.contiguous(memory_format=torch.channels_last))
        return made
    count, channels, height, width = x.shape
    inner = x[:, :, : height // 2 * 2, : width // 2 * 2].permute(0, 2, 3, 1)
    windows = inner.reshape(count, height // 2, 2, width // 2, 2, channels)
    return windows.amax((2, 4)).permute(0, 3, 1, 2)


class _ByKernels(torch.autograd.Function):
    """The same in two passes over memory; of equal values the first one gets the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from retrainer.models import _halved_kernels

        out, which = _halved_kernels.forward(x)
        ctx.sides = x.shape[2:]
        ctx.save_for_backward(which)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        from retrainer.models import _halved_kernels

        (which,) = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        return _halved_kernels.backward(gradient, which, *ctx.sides)
