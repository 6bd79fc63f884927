"""Triton kernels of attention over short rows of packed queries, keys and values, forward and backward.

A program has all keys of one head of one row, so it makes the softmax at once, in the backward pass again,
and every gradient is written by one program alone: no atomic additions, the same bits each time.
Legend: B rows, T tokens, H heads, D width of a head.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from retrainer.training._attention import MOST_TOKENS
from retrainer.training._dropout_bits import threshold
from retrainer.training._dropout_kernels import kept, stream_keys

_LOG2_E = 1.4426950408889634
# Queries of a program at once, and its warps, forward and backward. With 32 queries and 4
# warps Triton 3.6 made a kernel that read beyond its memory; these were compared with the formula on an H200.
_QUERIES, _BACK_QUERIES, _WARPS = 128, 64, 8


@triton.jit
def _part(packed, bias, token, column, length, step):
    """[tokens, D] of one head of the queries, keys or values, its bias added."""
    there = (token < length)[:, None]
    value = tl.load(packed + token[:, None] * step + column[None, :], mask=there, other=0.0)
    added = value.to(tl.float32) + tl.load(bias + column)[None, :]
    return tl.where(there, added, 0.0).to(value.dtype)


@triton.jit
def _seen(mask, token, row, length, MASK: tl.constexpr):
    """Which keys the queries of a row see."""
    seen = token < length
    if MASK:
        seen = seen & (tl.load(mask + row * length + token, mask=seen, other=0) != 0)
    return seen


@triton.jit(do_not_specialize=["index", "below"])
def _forward(
    packed, bias, mask, out, seeds, index, length, heads, scale, below, more,
    MASK: tl.constexpr, DROP: tl.constexpr, WIDTH: tl.constexpr, KEYS: tl.constexpr, QUERIES: tl.constexpr,
):  # fmt: skip
    stream = tl.program_id(0)
    row, head = stream // heads, stream % heads
    step, column = 3 * heads * WIDTH, tl.arange(0, WIDTH)
    place = head * WIDTH
    here = packed + row.to(tl.int64) * length * step + place
    query_token, token = tl.program_id(1) * QUERIES + tl.arange(0, QUERIES), tl.arange(0, KEYS)
    query = _part(here, bias + place, query_token, column, length, step)
    key = _part(here + heads * WIDTH, bias + heads * WIDTH + place, token, column, length, step)
    value = _part(here + 2 * heads * WIDTH, bias + 2 * heads * WIDTH + place, token, column, length, step)
    score = tl.dot(query, tl.trans(key)) * scale
    score = tl.where(_seen(mask, token, row, length, MASK)[None, :], score, -1e30)
    weight = tl.exp2(score - tl.max(score, 1)[:, None])
    weight = weight / tl.sum(weight, 1)[:, None]
    if DROP:
        first, second = stream_keys(seeds, index, stream)
        keep = kept(query_token[:, None] * KEYS + token[None, :], first, second, below)
        weight = tl.where(keep, weight, 0.0)
    made = tl.dot(weight.to(value.dtype), value) * more
    at = out + row.to(tl.int64) * length * heads * WIDTH + place
    at += query_token[:, None] * heads * WIDTH + column[None, :]
    tl.store(at, made.to(out.dtype.element_ty), mask=(query_token < length)[:, None])


@triton.jit(do_not_specialize=["index", "below"])
def _backward(
    gradient, packed, bias, mask, made, bias_made, seeds, index, length, heads, scale,
    back_scale, below, more,
    MASK: tl.constexpr, DROP: tl.constexpr, WIDTH: tl.constexpr, KEYS: tl.constexpr, QUERIES: tl.constexpr,
):  # fmt: skip
    stream = tl.program_id(0)
    row, head = stream // heads, stream % heads
    step, column, token = 3 * heads * WIDTH, tl.arange(0, WIDTH), tl.arange(0, KEYS)
    place = head * WIDTH
    start = row.to(tl.int64) * length * step + place
    here, there = packed + start, made + start
    gradient += row.to(tl.int64) * length * heads * WIDTH + place
    key = _part(here + heads * WIDTH, bias + heads * WIDTH + place, token, column, length, step)
    value = _part(here + 2 * heads * WIDTH, bias + 2 * heads * WIDTH + place, token, column, length, step)
    by_key = tl.zeros((KEYS, WIDTH), tl.float32)
    by_value = tl.zeros((KEYS, WIDTH), tl.float32)
    by_bias = tl.zeros((WIDTH,), tl.float32)
    seen = _seen(mask, token, row, length, MASK)
    if DROP:
        first, second = stream_keys(seeds, index, stream)
    for begin in range(0, length, QUERIES):
        query_token = begin + tl.arange(0, QUERIES)
        inside = (query_token < length)[:, None]
        query = _part(here, bias + place, query_token, column, length, step)
        slope = tl.load(
            gradient + query_token[:, None] * heads * WIDTH + column[None, :], mask=inside, other=0.0
        )
        # Keys before queries: two of the products then read the weights from registers.
        score = tl.dot(key, tl.trans(query)) * scale
        score = tl.where(seen[:, None], score, -1e30)
        weight = tl.exp2(score - tl.max(score, 0)[None, :])
        weight = weight / tl.sum(weight, 0)[None, :]
        by_weight = tl.dot(value, tl.trans(slope)) * more
        if DROP:
            keep = kept(query_token[None, :] * KEYS + token[:, None], first, second, below)
            dropped = tl.where(keep, weight, 0.0)
            by_weight = tl.where(keep, by_weight, 0.0)
        else:
            dropped = weight
        by_value = tl.dot(dropped.to(slope.dtype), slope, by_value)
        by_score = weight * (by_weight - tl.sum(weight * by_weight, 0)[None, :]) * back_scale
        by_score = by_score.to(query.dtype)
        by_key = tl.dot(by_score, query, by_key)
        by_query = tl.dot(tl.trans(key), by_score)
        known = (query_token < length)[None, :]
        by_bias += tl.sum(tl.where(known, by_query, 0.0), 1)
        at = there + query_token[None, :] * step + column[:, None]
        tl.store(at, by_query.to(made.dtype.element_ty), mask=known)
    by_value = by_value * more
    at = there + heads * WIDTH + token[:, None] * step + column[None, :]
    inside = (token < length)[:, None]
    tl.store(at, by_key.to(made.dtype.element_ty), mask=inside)
    tl.store(at + heads * WIDTH, by_value.to(made.dtype.element_ty), mask=inside)
    at = bias_made + row * step + place + column
    tl.store(at, by_bias)
    tl.store(at + heads * WIDTH, tl.sum(tl.where(inside, by_key, 0.0), 0))
    tl.store(at + 2 * heads * WIDTH, tl.sum(tl.where(inside, by_value, 0.0), 0))


def forward(
    packed: Tensor, bias: Tensor, mask: Tensor | None, seeds: Tensor, index: int, dropout: float, scale: float
) -> Tensor:
    """See `_attention.attention`."""
    rows, length, _, heads, width = packed.shape
    out = packed.new_empty(rows, length, heads, width)
    _forward[(rows * heads, triton.cdiv(length, _QUERIES))](
        packed, bias, _bytes(mask, packed), out, seeds, index, length, heads, scale * _LOG2_E,
        threshold(dropout), 1 / (1 - dropout), **_tile(packed, mask, dropout), QUERIES=_QUERIES,
        num_warps=_WARPS,
    )  # fmt: skip
    return out


def backward(
    gradient: Tensor, packed: Tensor, bias: Tensor, mask: Tensor | None, seeds: Tensor, index: int,
    dropout: float, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See `_attention.attention_backward`."""
    rows, length, _, heads, width = packed.shape
    made = torch.empty_like(packed)
    bias_made = torch.empty((rows, 3, heads, width), dtype=torch.float32, device=packed.device)
    _backward[(rows * heads,)](
        gradient, packed, bias, _bytes(mask, packed), made, bias_made, seeds, index, length, heads,
        scale * _LOG2_E, scale, threshold(dropout), 1 / (1 - dropout), **_tile(packed, mask, dropout),
        QUERIES=_BACK_QUERIES, num_warps=_WARPS, num_stages=1,
    )  # fmt: skip
    return made, bias_made.sum(0)


def _bytes(mask: Tensor | None, packed: Tensor) -> Tensor:
    """The mask as the kernels read it; where there is none, anything."""
    return packed if mask is None else mask.view(torch.uint8)


def _tile(packed: Tensor, mask: Tensor | None, dropout: float) -> dict[str, int | bool]:
    return {"MASK": mask is not None, "DROP": dropout > 0, "WIDTH": packed.shape[-1], "KEYS": MOST_TOKENS}
