"""What lies between an encoder's matrix products, as two operations that the compiler takes as they are.

    add_norm    layer norm of a shortcut and of what is added to it: a product, its bias, dropout
    gelu        of a product and its bias

On a GPU they run as the kernels of `_encoder_kernels`, elsewhere as the plain formula below. Products are
given without their bias: so its gradient is summed where the gradient of the product is made.
Legend: C channels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from retrainer.training import _dropout_bits


@torch.library.custom_op("retrainer::add_norm", mutates_args=())
def add_norm(
    x: Tensor, bias: Tensor, residual: Tensor, weight: Tensor, shift: Tensor, seeds: Tensor, index: int,
    dropout: float, eps: float,
) -> Tensor:  # fmt: skip
    """layer_norm(residual + dropout(x + bias)) like `x`; x and residual [..., C], the others float32 [C].

    What is dropped follows from the seed at `index` of `seeds`.
    """
    if x.is_cuda:
        from retrainer.training import _encoder_kernels

        return _encoder_kernels.add_norm(x, bias, residual, weight, shift, seeds, index, dropout, eps)
    summed = residual.float() + (x.float() + bias) * _factor(x, seeds[index], dropout)
    return functional.layer_norm(summed, weight.shape, weight, shift, eps).to(x.dtype)


@torch.library.custom_op("retrainer::add_norm_backward", mutates_args=())
def add_norm_backward(
    gradient: Tensor, more: Tensor | None, x: Tensor, bias: Tensor, residual: Tensor, weight: Tensor,
    seeds: Tensor, index: int, dropout: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x and the residual, and [3, C] of weight, shift and bias.

    The output's gradient is the sum of `gradient` and, where given, `more`.
    """
    if x.is_cuda:
        from retrainer.training import _encoder_kernels

        return _encoder_kernels.add_norm_backward(
            gradient, more, x, bias, residual, weight, seeds, index, dropout, eps
        )
    factor = _factor(x, seeds[index], dropout)
    summed = residual.float() + (x.float() + bias) * factor
    variance, mean = torch.var_mean(summed, -1, correction=0, keepdim=True)
    inverse = (variance + eps).rsqrt()
    normal = (summed - mean) * inverse
    slope = gradient.float() if more is None else gradient.float() + more.float()
    scaled = slope * weight
    along = (scaled * normal).mean(-1, keepdim=True)
    made = inverse * (scaled - scaled.mean(-1, keepdim=True) - normal * along)
    sums = [part.flatten(0, -2).sum(0) for part in (slope * normal, slope, made * factor)]
    return (made * factor).to(x.dtype), made.to(residual.dtype), torch.stack(sums)


@torch.library.custom_op("retrainer::gelu", mutates_args=())
def gelu(x: Tensor, bias: Tensor) -> Tensor:
    """gelu(x + bias) like `x` [..., C]; the bias is float32 [C]."""
    if x.is_cuda:
        from retrainer.training import _encoder_kernels

        return _encoder_kernels.gelu(x, bias)
    return functional.gelu(x.float() + bias).to(x.dtype)


@torch.library.custom_op("retrainer::gelu_backward", mutates_args=())
def gelu_backward(gradient: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and of the bias."""
    if x.is_cuda:
        from retrainer.training import _encoder_kernels

        return _encoder_kernels.gelu_backward(gradient, x, bias)
    value = x.float() + bias
    below = 0.5 * (1 + torch.erf(value / math.sqrt(2)))
    slope = gradient.float() * (below + value * torch.exp(-value * value / 2) / math.sqrt(2 * math.pi))
    return slope.to(x.dtype), slope.flatten(0, -2).sum(0)


def _factor(x: Tensor, seed: Tensor, dropout: float) -> Tensor:
    """What dropout multiplies each value by."""
    if not dropout:
        return torch.ones((), device=x.device)
    return _dropout_bits.kept(seed, 1, x.numel(), dropout).view(x.shape) / (1 - dropout)


@add_norm.register_fake
def _(x: Tensor, bias: Tensor, residual: Tensor, *_: Any) -> Tensor:  # noqa: ARG001
    return torch.empty_like(x)


@add_norm_backward.register_fake
def _(
    gradient: Tensor, more: Tensor | None, x: Tensor, bias: Tensor, residual: Tensor, *_: Any  # noqa: ARG001
) -> Any:  # fmt: skip
    return torch.empty_like(x), torch.empty_like(residual), bias.new_empty(3, len(bias))


@gelu.register_fake
def _(x: Tensor, bias: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(x)


@gelu_backward.register_fake
def _(gradient: Tensor, x: Tensor, bias: Tensor) -> Any:  # noqa: ARG001
    return torch.empty_like(x), torch.empty_like(bias)


def _save_norm(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    x, bias, residual, weight, _, seeds, ctx.index, ctx.dropout, ctx.eps = inputs
    ctx.save_for_backward(x, bias, residual, weight, seeds)


def _norm_gradients(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    by_x, by_residual, sums = add_norm_backward(
        gradient.contiguous(), None, *ctx.saved_tensors, ctx.index, ctx.dropout, ctx.eps
    )
    by_weight, by_shift, by_bias = sums.unbind()
    return by_x, by_bias, by_residual, by_weight, by_shift, None, None, None, None


def _save_gelu(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs)


def _gelu_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    made, by_bias = gelu_backward(gradient.contiguous(), *ctx.saved_tensors)
    return made, by_bias


add_norm.register_autograd(_norm_gradients, setup_context=_save_norm)
gelu.register_autograd(_gelu_gradients, setup_context=_save_gelu)
