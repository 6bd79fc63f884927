"""Batch norm, ReLU and max pooling of 3×3 with a step of 2, as residual networks begin, as one operation.

Before ReLU and pooling a norm only stretches and shifts, so what wins a window is its largest input, or its
smallest where the norm's weight is negative. So only winners are normalised, and all sums of the gradient are
sums over winners: what lies between the norm and the pooling, the network's largest tensor, is never written.
PyTorch's own gradient of the pooling, and the compiler's, take many times as long as the memory's traffic.

Legend: B rows, C channels, H, W of the input, h, w of what is pooled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from retrainer.training._fused_norm import norm_act_backward

SIDE, STEP, EDGE = 3, 2, 1


@torch.library.custom_op("retrainer::norm_pool", mutates_args=())
def norm_pool(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """[B, C, H, W], channels innermost → max_pool(relu(batch_norm(x))) [B, C, h, w]; of each window the input
    that won, and (uint8) which of the nine it was; mean and (biased) variance [C] of the batch.
    """
    if x.is_cuda:
        from retrainer.training import _norm_pool_kernels

        return _norm_pool_kernels.forward(x, weight, bias, eps)
    variance, mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)
    sign = _wide(torch.where(weight < 0, -1.0, 1.0))
    padded = functional.pad(x.float() * sign, (EDGE,) * 4, value=-torch.inf)
    windows = functional.unfold(padded, SIDE, stride=STEP)
    best, which = windows.view(len(x), x.shape[1], SIDE * SIDE, *pooled(x)).max(2)
    best = best * sign
    out = ((best - _wide(mean)) * _wide(weight * (variance + eps).rsqrt()) + _wide(bias)).relu()
    laid_out = (t.contiguous(memory_format=torch.channels_last) for t in (out, best, which))
    out, best, which = laid_out
    return out.to(x.dtype), best.to(x.dtype), which.to(torch.uint8), mean, variance


@torch.library.custom_op("retrainer::norm_pool_backward", mutates_args=())
def norm_pool_backward(
    gradient: Tensor,
    x: Tensor,
    best: Tensor,
    which: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias."""
    if x.is_cuda:
        from retrainer.training import _norm_pool_kernels

        return _norm_pool_kernels.backward(gradient, x, best, which, weight, bias, mean, variance, eps)
    _, by_weight, by_bias, _ = norm_act_backward(
        gradient, None, best, None, weight, bias, mean, variance, True, eps
    )
    inverse = (variance + eps).rsqrt()
    positive = (best.float() - _wide(mean)) * _wide(inverse * weight) + _wide(bias) > 0
    taps = torch.arange(SIDE * SIDE)[:, None, None] == which[:, :, None]
    slopes = torch.where(taps & positive[:, :, None], gradient[:, :, None].float(), 0.0)
    columns = slopes.reshape(len(x), x.shape[1] * SIDE * SIDE, -1)
    slope = functional.fold(columns, tuple(x.shape[2:]), SIDE, stride=STEP, padding=EDGE)
    count = x.numel() // x.shape[1]
    normal = (x.float() - _wide(mean)) * _wide(inverse)
    moved = _wide(weight * inverse) * (slope - _wide(by_bias / count) - normal * _wide(by_weight / count))
    return moved.to(x.dtype).contiguous(memory_format=torch.channels_last), by_weight, by_bias


def pooled(x: Tensor) -> tuple[int, int]:
    """Height and width of what is pooled."""
    height, width = (int(side + 2 * EDGE - SIDE) // STEP + 1 for side in x.shape[2:])
    return height, width


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]


@norm_pool.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Any:  # noqa: ARG001
    shape = (*x.shape[:2], *pooled(x))
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    which = torch.empty_like(out, dtype=torch.uint8)
    return out, torch.empty_like(out), which, torch.empty_like(weight), torch.empty_like(weight)


@norm_pool_backward.register_fake
def _(
    gradient: Tensor, x: Tensor, best: Tensor, which: Tensor, weight: Tensor, bias: Tensor,  # noqa: ARG001
    mean: Tensor, variance: Tensor, eps: float,  # noqa: ARG001
) -> Any:  # fmt: skip
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, ctx.eps = inputs
    _, best, which, mean, variance = output
    ctx.save_for_backward(x, best, which, weight, bias, mean, variance)


def _backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Any, ...]:
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    return *norm_pool_backward(gradient, *ctx.saved_tensors, ctx.eps), None


norm_pool.register_autograd(_backward, setup_context=_save)
