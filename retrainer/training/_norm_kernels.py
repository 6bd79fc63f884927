"""Triton kernels of a batch norm with the addition and the ReLU behind it, forward and backward.

Activations are [M, C] in memory (channels last; M = rows · height · width). Sums over M are taken in a fixed
order, in float32: a program adds up a fixed run of rows, and one further kernel adds up the programs' sums.
No size depends on the GPU, so the same input gives the same bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_COLUMNS = 64  # of a program: 128 bytes of a row
_ROWS = 64  # of a program, at once
_PROGRAMS = 1056  # that share the rows of all columns: several for each multiprocessor of the largest GPUs
_WARPS = 4
_FINAL_COLUMNS, _FINAL_ROWS = 16, 128


@triton.jit
def _columns(columns, COLUMNS: tl.constexpr):
    """This program's columns, and which of them there are."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    return column, column < columns


@triton.jit
def _tile(column, known, start, rows, columns, ROWS: tl.constexpr):
    """Offsets of the rows from `start` on, and which of them there are."""
    row = tl.arange(0, ROWS)
    inside = (start + row < rows)[:, None] & known[None, :]
    return start * columns.to(tl.int64) + row[:, None] * columns + column[None, :], inside


@triton.jit
def _sums(x, partial, rows, columns, each, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Partial sums of x - x[0] and of its square, over `each` rows a program."""
    first = tl.program_id(1) * each
    column, known = _columns(columns, COLUMNS)
    origin = tl.load(x + column, mask=known, other=0.0).to(tl.float32)
    one = tl.zeros((ROWS, COLUMNS), tl.float32)
    two = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(first, tl.minimum(first + each, rows), ROWS):
        at, inside = _tile(column, known, start, rows, columns, ROWS)
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        value = tl.where(inside, value - origin[None, :], 0.0)
        one += value
        two += value * value
    out = partial + tl.program_id(1) * columns + column
    tl.store(out, tl.sum(one, 0), mask=known)
    tl.store(out + tl.num_programs(1) * columns, tl.sum(two, 0), mask=known)


@triton.jit
def _add_up(partial, programs, columns, column, known, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Both sums [COLUMNS] of the partial ones."""
    one = tl.zeros((ROWS, COLUMNS), tl.float32)
    two = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, programs, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < programs)[:, None] & known[None, :]
        at = partial + row[:, None] * columns + column[None, :]
        one += tl.load(at, mask=inside, other=0.0)
        two += tl.load(at + programs * columns, mask=inside, other=0.0)
    return tl.sum(one, 0), tl.sum(two, 0)


@triton.jit
def _moments(x, partial, mean, variance, programs, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    column, known = _columns(columns, COLUMNS)
    one, two = _add_up(partial, programs, columns, column, known, ROWS, COLUMNS)
    origin = tl.load(x + column, mask=known, other=0.0).to(tl.float32)
    off = one / rows
    tl.store(mean + column, origin + off, mask=known)
    tl.store(variance + column, tl.maximum(two / rows - off * off, 0.0), mask=known)


@triton.jit
def _scales(weight, bias, mean, variance, column, known, eps):
    """y = x * scale + shift."""
    centre = tl.load(mean + column, mask=known, other=0.0)
    inverse = 1.0 / tl.sqrt(tl.load(variance + column, mask=known, other=1.0) + eps)
    scale = tl.load(weight + column, mask=known, other=0.0) * inverse
    return centre, inverse, scale, tl.load(bias + column, mask=known, other=0.0) - centre * scale


@triton.jit
def _apply(
    x, residual, out, weight, bias, mean, variance, eps, rows, columns,
    ADD: tl.constexpr, RELU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    start = tl.program_id(1) * ROWS
    column, known = _columns(columns, COLUMNS)
    at, inside = _tile(column, known, start, rows, columns, ROWS)
    _, _, scale, shift = _scales(weight, bias, mean, variance, column, known, eps)
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    value = value * scale[None, :] + shift[None, :]
    if ADD:
        value += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        value = tl.maximum(value, 0.0)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _back_sums(
    gradient, x, out, masked, partial, weight, bias, mean, variance, eps, rows, columns, each,
    ADD: tl.constexpr, RELU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Partial sums of the gradient behind the ReLU, and of it times x - mean.

    With ADD that gradient is written to `masked`: it is also the gradient of what was added.
    """
    first = tl.program_id(1) * each
    column, known = _columns(columns, COLUMNS)
    centre, _, scale, shift = _scales(weight, bias, mean, variance, column, known, eps)
    one = tl.zeros((ROWS, COLUMNS), tl.float32)
    two = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(first, tl.minimum(first + each, rows), ROWS):
        at, inside = _tile(column, known, start, rows, columns, ROWS)
        slope = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        if RELU:
            if ADD:
                slope = tl.where(tl.load(out + at, mask=inside, other=0.0) > 0, slope, 0.0)
            else:
                slope = tl.where(value * scale[None, :] + shift[None, :] > 0, slope, 0.0)
        if ADD:
            tl.store(masked + at, slope.to(masked.dtype.element_ty), mask=inside)
        one += slope
        two += tl.where(inside, slope * (value - centre[None, :]), 0.0)
    to = partial + tl.program_id(1) * columns + column
    tl.store(to, tl.sum(one, 0), mask=known)
    tl.store(to + tl.num_programs(1) * columns, tl.sum(two, 0), mask=known)


@triton.jit
def _back_moments(
    partial, variance, weight_gradient, bias_gradient, programs, columns, eps,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column, known = _columns(columns, COLUMNS)
    one, two = _add_up(partial, programs, columns, column, known, ROWS, COLUMNS)
    inverse = 1.0 / tl.sqrt(tl.load(variance + column, mask=known, other=1.0) + eps)
    tl.store(bias_gradient + column, one, mask=known)
    tl.store(weight_gradient + column, two * inverse, mask=known)


@triton.jit
def _back_apply(
    gradient, x, out, weight, bias, mean, variance, weight_gradient, bias_gradient, eps, rows, columns,
    RELU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    start = tl.program_id(1) * ROWS
    column, known = _columns(columns, COLUMNS)
    at, inside = _tile(column, known, start, rows, columns, ROWS)
    centre, inverse, scale, shift = _scales(weight, bias, mean, variance, column, known, eps)
    one = tl.load(bias_gradient + column, mask=known, other=0.0) / rows
    two = tl.load(weight_gradient + column, mask=known, other=0.0) * inverse / rows
    slope = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        slope = tl.where(value * scale[None, :] + shift[None, :] > 0, slope, 0.0)
    moved = scale[None, :] * (slope - one[None, :] - (value - centre[None, :]) * two[None, :])
    tl.store(out + at, moved.to(out.dtype.element_ty), mask=inside)


def _shared(rows: int, columns: int) -> tuple[int, int, int]:
    """Blocks of columns, programs that share the rows of each, and rows of each program."""
    across = triton.cdiv(columns, _COLUMNS)
    programs = max(1, min(triton.cdiv(rows, _ROWS), _PROGRAMS // across))
    each = triton.cdiv(triton.cdiv(rows, programs), _ROWS) * _ROWS
    return across, triton.cdiv(rows, each), each


_TILE = {"ROWS": _ROWS, "COLUMNS": _COLUMNS, "num_warps": _WARPS}
_FINAL = {"ROWS": _FINAL_ROWS, "COLUMNS": _FINAL_COLUMNS, "num_warps": _WARPS}


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, relu: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The output like `x`, and mean and (biased) variance [C], float32."""
    columns, rows = x.shape[1], x.numel() // x.shape[1]
    across, programs, each = _shared(rows, columns)
    partial, (mean, variance) = _floats(x, 2, programs, columns), _floats(x, 2, columns).unbind()
    last = (triton.cdiv(columns, _FINAL_COLUMNS),)
    out = torch.empty_like(x)
    _sums[across, programs](x, partial, rows, columns, each, **_TILE)
    _moments[last](x, partial, mean, variance, programs, rows, columns, **_FINAL)
    added = x if residual is None else residual
    _apply[across, triton.cdiv(rows, _ROWS)](
        x, added, out, weight, bias, mean, variance, eps, rows, columns,
        ADD=residual is not None, RELU=relu, **_TILE,
    )  # fmt: skip
    return out, mean, variance


def backward(
    gradient: Tensor, x: Tensor, out: Tensor | None, weight: Tensor, bias: Tensor, mean: Tensor,
    variance: Tensor, relu: bool, eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, weight, bias and, where `out` is given, of what was added (else an empty tensor)."""
    columns, rows = x.shape[1], x.numel() // x.shape[1]
    across, programs, each = _shared(rows, columns)
    partial, (by_weight, by_bias) = _floats(x, 2, programs, columns), _floats(x, 2, columns).unbind()
    last = (triton.cdiv(columns, _FINAL_COLUMNS),)
    added = out is not None
    masked = torch.empty_like(x) if added else x.new_empty(0)
    _back_sums[across, programs](
        gradient, x, out if added else x, masked, partial, weight, bias, mean, variance, eps,
        rows, columns, each, ADD=added, RELU=relu, **_TILE,
    )  # fmt: skip
    _back_moments[last](partial, variance, by_weight, by_bias, programs, columns, eps, **_FINAL)
    moved = torch.empty_like(x)
    _back_apply[across, triton.cdiv(rows, _ROWS)](
        masked if added else gradient, x, moved, weight, bias, mean, variance, by_weight, by_bias, eps,
        rows, columns, RELU=relu and not added, **_TILE,
    )  # fmt: skip
    return moved, by_weight, by_bias, masked


def _floats(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)
