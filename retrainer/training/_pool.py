"""Max pooling of 3×3 with a step of 2, as residual networks begin, with a gradient that is gathered.

PyTorch's own gradient on a GPU, and the compiler's, take many times as long as the memory's traffic. Here
each input looks at the windows that it is in, four at most.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SIDE, STEP, EDGE = 3, 2, 1


@torch.library.custom_op("retrainer::max_pool", mutates_args=())
def max_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """[B, C, H, W], channels innermost, → the pooled ones, and (uint8) which of the nine it was."""
    if x.is_cuda:
        from retrainer.training import _pool_kernels

        return _pool_kernels.forward(x)
    windows = functional.unfold(functional.pad(x.float(), (EDGE,) * 4, value=-torch.inf), SIDE, stride=STEP)
    best = windows.view(len(x), x.shape[1], SIDE * SIDE, *pooled(x)).max(2)
    layout = torch.channels_last
    return tuple(t.contiguous(memory_format=layout) for t in (best[0].to(x.dtype), best[1].to(torch.uint8)))


@torch.library.custom_op("retrainer::max_pool_backward", mutates_args=())
def max_pool_backward(gradient: Tensor, which: Tensor, height: int, width: int) -> Tensor:
    """The gradient of the input [B, C, `height`, `width`]."""
    if gradient.is_cuda:
        from retrainer.training import _pool_kernels

        return _pool_kernels.backward(gradient, which, height, width)
    count, channels = gradient.shape[:2]
    taps = torch.arange(SIDE * SIDE)[:, None, None] == which[:, :, None]
    columns = torch.where(taps, gradient[:, :, None].float(), 0.0).reshape(count, channels * SIDE * SIDE, -1)
    made = functional.fold(columns, (height, width), SIDE, stride=STEP, padding=EDGE)
    return made.to(gradient.dtype).contiguous(memory_format=torch.channels_last)


def pooled(x: Tensor) -> tuple[int, int]:
    """Height and width of what is pooled."""
    height, width = (int(side + 2 * EDGE - SIDE) // STEP + 1 for side in x.shape[2:])
    return height, width


@max_pool.register_fake
def _(x: Tensor) -> Any:
    shape = (*x.shape[:2], *pooled(x))
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return out, torch.empty_like(out, dtype=torch.uint8)


@max_pool_backward.register_fake
def _(gradient: Tensor, which: Tensor, height: int, width: int) -> Any:  # noqa: ARG001
    shape = (*gradient.shape[:2], height, width)
    return torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.height, ctx.width = inputs[0].shape[2:]
    ctx.save_for_backward(output[1])


def _backward(ctx: Any, gradient: Tensor, *_: Any) -> Tensor:
    (which,) = ctx.saved_tensors
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    made: Tensor = max_pool_backward(gradient, which, ctx.height, ctx.width)
    return made


max_pool.register_autograd(_backward, setup_context=_save)
