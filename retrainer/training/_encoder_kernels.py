"""Triton kernels of what lies between an encoder's products: bias, dropout, shortcut and norm; bias and GELU.

Rows are tokens, [M, C] in memory. A program adds up its run of rows of the gradients of bias and weights in
float32; the sum over the programs is taken outside, in a fixed order. No size depends on the GPU.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from retrainer.training._dropout_bits import threshold
from retrainer.training._dropout_kernels import kept, stream_keys

# The fastest of those measured on an H200, for 768 channels; GELU for 3,072.
_NORM_ROWS, _NORM_WARPS, _NORM_PROGRAMS = 2, 4, 528
_GELU_ROWS, _GELU_COLUMNS, _GELU_WARPS, _GELU_PROGRAMS = 32, 128, 8, 1056


@triton.jit
def _summed(x, bias, residual, at, inside, column, known, first, second, below, more, DROP: tl.constexpr):
    """residual + dropout(x + bias), and the mask of the dropout times its factor."""
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + column, mask=known, other=0.0)[None, :]
    if DROP:
        factor = tl.where(kept(at, first, second, below), more, 0.0)
        value *= factor
    else:
        factor = tl.full(value.shape, 1.0, tl.float32)
    return value + tl.load(residual + at, mask=inside, other=0.0).to(tl.float32), factor


@triton.jit
def _normal(value, inside, columns, eps):
    """(value - mean) / deviation and 1 / deviation, of each row."""
    mean = tl.sum(tl.where(inside, value, 0.0), 1) / columns
    off = tl.where(inside, value - mean[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(off * off, 1) / columns + eps)
    return off * inverse[:, None], inverse


@triton.jit(do_not_specialize=["index", "below"])
def _add_norm(
    x, bias, residual, weight, shift, out, seeds, index, rows, columns, eps, below, more,
    DROP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column, row = tl.arange(0, COLUMNS), tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    known, inside = column < columns, (row < rows)[:, None] & (column < columns)[None, :]
    at = row[:, None] * columns + column[None, :]
    first, second = stream_keys(seeds, index, tl.program_id(1))
    value, _ = _summed(x, bias, residual, at, inside, column, known, first, second, below, more, DROP)
    normal, _ = _normal(value, inside, columns, eps)
    scale = tl.load(weight + column, mask=known, other=0.0)[None, :]
    made = normal * scale + tl.load(shift + column, mask=known, other=0.0)[None, :]
    tl.store(out + at, made.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["index", "below"])
def _add_norm_back(
    gradient, second_gradient, x, bias, residual, weight, by_x, by_residual, partial, seeds, index,
    rows, columns, each, eps, below, more,
    TWO: tl.constexpr, DROP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Gradients of x and the residual; partial sums of those of the norm's weight and shift, and the bias."""
    column = tl.arange(0, COLUMNS)
    known = column < columns
    scale = tl.load(weight + column, mask=known, other=0.0)[None, :]
    first, second = stream_keys(seeds, index, tl.program_id(1))
    by_weight = tl.zeros((COLUMNS,), tl.float32)
    by_shift = tl.zeros((COLUMNS,), tl.float32)
    by_bias = tl.zeros((COLUMNS,), tl.float32)
    begin = tl.program_id(0) * each
    for start in range(begin, tl.minimum(begin + each, rows), ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & known[None, :]
        at = row[:, None] * columns + column[None, :]
        slope = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
        if TWO:
            slope += tl.load(second_gradient + at, mask=inside, other=0.0).to(tl.float32)
        value, factor = _summed(
            x, bias, residual, at, inside, column, known, first, second, below, more, DROP
        )
        normal, inverse = _normal(value, inside, columns, eps)
        by_weight += tl.sum(slope * normal, 0)
        by_shift += tl.sum(slope, 0)
        scaled = slope * scale
        mean, along = tl.sum(scaled, 1) / columns, tl.sum(scaled * normal, 1) / columns
        made = inverse[:, None] * (scaled - mean[:, None] - normal * along[:, None])
        tl.store(by_residual + at, made.to(by_residual.dtype.element_ty), mask=inside)
        made = tl.where(inside, made * factor, 0.0)
        by_bias += tl.sum(made, 0)
        tl.store(by_x + at, made.to(by_x.dtype.element_ty), mask=inside)
    at = partial + tl.program_id(0) * 3 * columns + column
    tl.store(at, by_weight, mask=known)
    tl.store(at + columns, by_shift, mask=known)
    tl.store(at + 2 * columns, by_bias, mask=known)


@triton.jit
def _normal_distribution(value):
    """Its cumulative function and its density, by one exponential: an error function of PyTorch's kind would
    take as long as the memory (Abramowitz and Stegun 1964, 7.1.26; off by at most 7.5e-8)."""
    density = tl.exp(-0.5 * value * value)
    t = 1.0 / (1.0 + 0.3275911 * 0.7071067811865476 * tl.abs(value))
    tail = 1.061405429 * t - 1.453152027
    tail = ((tail * t + 1.421413741) * t - 0.284496736) * t + 0.254829592
    tail = 0.5 * tail * t * density
    return tl.where(value < 0, tail, 1.0 - tail), density * 0.3989422804014327


@triton.jit
def _gelu(x, bias, out, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    across = tl.cdiv(columns, COLUMNS)
    column = tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS)
    row, known = tl.program_id(0) // across * ROWS + tl.arange(0, ROWS), column < columns
    inside = (row < rows)[:, None] & known[None, :]
    at = row[:, None].to(tl.int64) * columns + column[None, :]
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + column, mask=known, other=0.0)[None, :]
    share, _ = _normal_distribution(value)
    made = value * share
    tl.store(out + at, made.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gelu_back(
    gradient, x, bias, made, partial, rows, columns, each, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    across = tl.cdiv(columns, COLUMNS)
    column = tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS)
    known, place = column < columns, tl.program_id(0) // across
    added = tl.load(bias + column, mask=known, other=0.0)[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    begin = place * each
    for start in range(begin, tl.minimum(begin + each, rows), ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & known[None, :]
        at = row[:, None].to(tl.int64) * columns + column[None, :]
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) + added
        slope = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
        share, density = _normal_distribution(value)
        slope *= share + value * density
        total += slope
        tl.store(made + at, slope.to(made.dtype.element_ty), mask=inside)
    tl.store(partial + place * columns + column, tl.sum(total, 0), mask=known)


def add_norm(
    x: Tensor, bias: Tensor, residual: Tensor, weight: Tensor, shift: Tensor, seeds: Tensor, index: int,
    dropout: float, eps: float,
) -> Tensor:  # fmt: skip
    columns, rows = x.shape[-1], x.numel() // x.shape[-1]
    out = torch.empty_like(x)
    _add_norm[(triton.cdiv(rows, _NORM_ROWS), 1)](
        x, bias, residual, weight, shift, out, seeds, index, rows, columns, eps, threshold(dropout),
        1 / (1 - dropout), DROP=dropout > 0, ROWS=_NORM_ROWS, COLUMNS=triton.next_power_of_2(columns),
        num_warps=_NORM_WARPS,
    )  # fmt: skip
    return out


def add_norm_backward(
    gradient: Tensor, more: Tensor | None, x: Tensor, bias: Tensor, residual: Tensor, weight: Tensor,
    seeds: Tensor, index: int, dropout: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    columns, rows = x.shape[-1], x.numel() // x.shape[-1]
    each, programs = _shared(rows, _NORM_PROGRAMS, _NORM_ROWS)
    by_x, by_residual = torch.empty_like(x), torch.empty_like(residual)
    partial = torch.empty((programs, 3, columns), dtype=torch.float32, device=x.device)
    _add_norm_back[(programs, 1)](
        gradient, gradient if more is None else more, x, bias, residual, weight, by_x, by_residual, partial,
        seeds, index, rows, columns, each, eps, threshold(dropout), 1 / (1 - dropout), TWO=more is not None,
        DROP=dropout > 0, ROWS=_NORM_ROWS, COLUMNS=triton.next_power_of_2(columns), num_warps=_NORM_WARPS,
    )  # fmt: skip
    return by_x, by_residual, partial.sum(0)


def gelu(x: Tensor, bias: Tensor) -> Tensor:
    columns, rows = x.shape[-1], x.numel() // x.shape[-1]
    out = torch.empty_like(x)
    _gelu[(triton.cdiv(columns, _GELU_COLUMNS) * triton.cdiv(rows, _GELU_ROWS),)](
        x, bias, out, rows, columns, ROWS=_GELU_ROWS, COLUMNS=_GELU_COLUMNS, num_warps=_GELU_WARPS
    )
    return out


def gelu_backward(gradient: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    columns, rows = x.shape[-1], x.numel() // x.shape[-1]
    across = triton.cdiv(columns, _GELU_COLUMNS)
    each, programs = _shared(rows, max(1, _GELU_PROGRAMS // across), _GELU_ROWS)
    made = torch.empty_like(x)
    partial = torch.empty((programs, columns), dtype=torch.float32, device=x.device)
    _gelu_back[(across * programs,)](
        gradient, x, bias, made, partial, rows, columns, each, ROWS=_GELU_ROWS, COLUMNS=_GELU_COLUMNS,
        num_warps=_GELU_WARPS,
    )  # fmt: skip
    return made, partial.sum(0)


def _shared(rows: int, most: int, at_once: int) -> tuple[int, int]:
    """Rows of each program, and how many programs these are."""
    each = triton.cdiv(triton.cdiv(rows, most), at_once) * at_once
    return each, triton.cdiv(rows, each)
