"""Batch norm, the addition of a shortcut and ReLU as one operation that the compiler takes as it is.

Training a residual network moves more memory in these than in its convolutions, and the kernels that the
compiler makes of them reach half of the memory's rate. On a GPU it runs as the kernels of `_norm_kernels`;
elsewhere as the plain formula below. Legend: C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("retrainer::norm_act", mutates_args=())
def norm_act(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, relu: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """relu(batch_norm(x) + residual), and the batch's mean and (biased) variance [C].

    `x` [B, C, H, W] and `residual` are dense with the channels innermost; weight and bias are float32 [C].
    """
    if x.is_cuda:
        from retrainer.training import _norm_kernels

        return _norm_kernels.forward(x, weight, bias, residual, relu, eps)
    variance, mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)
    out = (x.float() - _wide(mean)) * _wide(weight * (variance + eps).rsqrt()) + _wide(bias)
    if residual is not None:
        out = out + residual.float()
    return (out.relu() if relu else out).to(x.dtype), mean, variance


@torch.library.custom_op("retrainer::norm_act_backward", mutates_args=())
def norm_act_backward(
    gradient: Tensor,
    more: Tensor | None,
    x: Tensor,
    out: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    relu: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias and, where `out` is given, of the residual (else an empty tensor).

    The output's gradient is the sum of `gradient` and, where given, `more`.
    """
    if x.is_cuda:
        from retrainer.training import _norm_kernels

        return _norm_kernels.backward(gradient, more, x, out, weight, bias, mean, variance, relu, eps)
    inverse = (variance + eps).rsqrt()
    normal = (x.float() - _wide(mean)) * _wide(inverse)
    slope = gradient.float() if more is None else gradient.float() + more.float()
    if relu:
        positive = normal * _wide(weight) + _wide(bias) > 0 if out is None else out > 0
        slope = torch.where(positive, slope, 0.0)
    by_bias, by_weight = slope.sum((0, 2, 3)), (slope * normal).sum((0, 2, 3))
    count = x.numel() // x.shape[1]
    moved = _wide(weight * inverse) * (slope - _wide(by_bias / count) - normal * _wide(by_weight / count))
    masked = x.new_empty(0) if out is None else slope.to(x.dtype)
    return moved.to(x.dtype), by_weight, by_bias, masked


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]


@norm_act.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, relu: bool, eps: float) -> Any:  # noqa: ARG001
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)


@norm_act_backward.register_fake
def _(
    gradient: Tensor, more: Tensor | None, x: Tensor, out: Tensor | None, weight: Tensor,  # noqa: ARG001
    bias: Tensor, mean: Tensor, variance: Tensor, relu: bool, eps: float,  # noqa: ARG001
) -> Any:  # fmt: skip
    masked = x.new_empty(0) if out is None else torch.empty_like(x)
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight), masked


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, residual, ctx.relu, ctx.eps = inputs
    out, mean, variance = output
    ctx.added = residual is not None
    ctx.save_for_backward(x, weight, bias, mean, variance, *([out] if ctx.added else []))


def _backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Any, ...]:
    x, weight, bias, mean, variance, *out = ctx.saved_tensors
    layout = torch.channels_last
    gradient = gradient.contiguous(memory_format=layout)
    kept = out[0] if ctx.added else None
    moved, by_weight, by_bias, masked = norm_act_backward(
        gradient, None, x, kept, weight, bias, mean, variance, ctx.relu, ctx.eps
    )
    return moved, by_weight, by_bias, masked if ctx.added else None, None, None


norm_act.register_autograd(_backward, setup_context=_save)
