"""Attention over short rows as one operation, from packed queries, keys and values to packed gradients.

On a GPU it runs as the kernels of `_attention_kernels`, elsewhere as the plain formula below. The bias of the
projection is added here, so that its gradient needs no pass of its own.
Legend: B rows, T tokens, H heads, D width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retrainer.training import _dropout_bits

MOST_TOKENS = 128  # a program of the kernels has so many keys


@torch.library.custom_op("retrainer::attention", mutates_args=())
def attention(
    packed: Tensor, bias: Tensor, mask: Tensor | None, seeds: Tensor, index: int, dropout: float, scale: float
) -> Tensor:
    """Packed [B, T, 3, H, D] and the bias [3, H, D] of the projection → [B, T, H, D].

    The mask [B, T] is true where a row has a token; without one all are seen. Which weights are dropped
    follows from the seed at `index` of `seeds`.
    """
    if packed.is_cuda:
        from retrainer.training import _attention_kernels

        return _attention_kernels.forward(packed, bias, mask, seeds, index, dropout, scale)
    _, _, value, weight, keep = _parts(packed, bias, mask, seeds[index], dropout, scale)
    return (weight * keep @ value).transpose(1, 2).to(packed.dtype).contiguous()


@torch.library.custom_op("retrainer::attention_backward", mutates_args=())
def attention_backward(
    gradient: Tensor, packed: Tensor, bias: Tensor, mask: Tensor | None, seeds: Tensor, index: int,
    dropout: float, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of the packed ones and of the bias [3, H, D], float32."""
    if packed.is_cuda:
        from retrainer.training import _attention_kernels

        return _attention_kernels.backward(gradient, packed, bias, mask, seeds, index, dropout, scale)
    query, key, value, weight, keep = _parts(packed, bias, mask, seeds[index], dropout, scale)
    slope = gradient.float().transpose(1, 2)
    by_value = (weight * keep).transpose(2, 3) @ slope
    by_weight = slope @ value.transpose(2, 3) * keep
    by_score = weight * (by_weight - (weight * by_weight).sum(-1, keepdim=True)) * scale
    made = torch.stack([by_score @ key, by_score.transpose(2, 3) @ query, by_value]).permute(1, 3, 0, 2, 4)
    return made.to(packed.dtype).contiguous(), made.sum((0, 1))


def _parts(
    packed: Tensor, bias: Tensor, mask: Tensor | None, seed: Tensor, dropout: float, scale: float
) -> tuple[Tensor, ...]:
    """Queries, keys and values [B, H, T, D], the softmax [B, H, T, T], and what dropout multiplies it by."""
    rows, length, _, heads, _ = packed.shape
    added = (packed.float() + bias).to(packed.dtype).float()
    query, key, value = added.permute(2, 0, 3, 1, 4)
    score = query @ key.transpose(2, 3) * scale
    if mask is not None:
        score = score.masked_fill(~mask[:, None, None, :], -1e30)
    weight = score.softmax(-1)
    keep = torch.ones_like(weight)
    if dropout:
        bits = _dropout_bits.kept(seed, rows * heads, length * MOST_TOKENS, dropout)
        keep = bits.view(rows, heads, length, MOST_TOKENS)[..., :length] / (1 - dropout)
    return query, key, value, weight, keep


@attention.register_fake
def _(packed: Tensor, *_: Any) -> Tensor:
    return packed.new_empty(*packed.shape[:2], *packed.shape[3:])


@attention_backward.register_fake
def _(gradient: Tensor, packed: Tensor, bias: Tensor, *_: Any) -> Any:  # noqa: ARG001
    return torch.empty_like(packed), torch.empty_like(bias)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    *tensors, ctx.index, ctx.dropout, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    made, by_bias = attention_backward(
        gradient.contiguous(), *ctx.saved_tensors, ctx.index, ctx.dropout, ctx.scale
    )
    return made, by_bias, None, None, None, None, None


attention.register_autograd(_backward, setup_context=_save)
