"""Triton kernels of a batch norm with the addition and the ReLU behind it, forward and backward.

Activations are [M, C] in memory (channels last; M = rows · height · width). Sums over M are taken in a fixed
order, in float32: a program adds up every so many-th tile of rows, and one further kernel adds up the sums of
the programs. No size depends on the GPU, so the same input gives the same bits.

Sums go from the last rows to the first, and what uses them from the first to the last: in both a part of the
rows is still in the GPU's cache, from what wrote or read them before.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

_COLUMNS = 64  # of a program: 128 bytes of a row
# Of a tile: its reads are all on their way at once. Of sums: those of so many rows are kept, one read of each
# thread, so that registers are left for many programs on a multiprocessor.
_ROWS, _SUM_ROWS, _BACK_ROWS, _FOLDED = 64, 64, 32, 16
# Programs that share the rows of all columns, at once: so many for each multiprocessor of an H100 or H200.
_PROGRAMS, _BACK_PROGRAMS = 7 * 132, 5 * 132
_WARPS = 4
_FINAL_COLUMNS, _FINAL_ROWS = 16, 128


@triton.jit
def _columns(columns, COLUMNS: tl.constexpr):
    """This program's columns and which of them there are, and its place among those that have the same."""
    across = tl.cdiv(columns, COLUMNS)
    column = tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS)
    return column, column < columns, tl.program_id(0) // across


@triton.jit
def _tile(column, known, start, rows, columns, ROWS: tl.constexpr):
    """Offsets of the rows from `start` on, and which of them there are."""
    row = tl.arange(0, ROWS)
    inside = (start + row < rows)[:, None] & known[None, :]
    return start * columns.to(tl.int64) + row[:, None] * columns + column[None, :], inside


@triton.jit
def _folded(values, ROWS: tl.constexpr, FOLDED: tl.constexpr, COLUMNS: tl.constexpr):
    """Sums [FOLDED, COLUMNS] of [ROWS, COLUMNS], each within a thread."""
    return tl.sum(tl.reshape(values, (ROWS // FOLDED, FOLDED, COLUMNS)), 0)


@triton.jit
def _keep(partial, place, one, two, columns, column, known):
    """Both partial sums, [programs, 2, C]."""
    at = partial + place * 2 * columns + column
    tl.store(at, tl.sum(one, 0), mask=known)
    tl.store(at + columns, tl.sum(two, 0), mask=known)


@triton.jit
def _sums(
    x, partial, rows, columns, programs,
    ROWS: tl.constexpr, FOLDED: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Partial sums of x - x[0] and of its square, over every `programs`-th tile of rows."""
    column, known, place = _columns(columns, COLUMNS)
    tiles = tl.cdiv(rows, ROWS)
    origin = tl.load(x + column, mask=known, other=0.0).to(tl.float32)
    one = tl.zeros((FOLDED, COLUMNS), tl.float32)
    two = tl.zeros((FOLDED, COLUMNS), tl.float32)
    for tile in range(place, tiles, programs):
        at, inside = _tile(column, known, (tiles - 1 - tile) * ROWS, rows, columns, ROWS)
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        value = tl.where(inside, value - origin[None, :], 0.0)
        one += _folded(value, ROWS, FOLDED, COLUMNS)
        two += _folded(value * value, ROWS, FOLDED, COLUMNS)
    _keep(partial, place, one, two, columns, column, known)


@triton.jit
def _add_up(partial, programs, columns, column, known, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Both sums [COLUMNS] of the partial ones."""
    one = tl.zeros((ROWS, COLUMNS), tl.float32)
    two = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, programs, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < programs)[:, None] & known[None, :]
        at = partial + row[:, None] * 2 * columns + column[None, :]
        one += tl.load(at, mask=inside, other=0.0)
        two += tl.load(at + columns, mask=inside, other=0.0)
    return tl.sum(one, 0), tl.sum(two, 0)


@triton.jit
def _moments(x, partial, mean, variance, programs, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    column, known, _ = _columns(columns, COLUMNS)
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
    column, known, place = _columns(columns, COLUMNS)
    start = place * ROWS
    at, inside = _tile(column, known, start, rows, columns, ROWS)
    _, _, scale, shift = _scales(weight, bias, mean, variance, column, known, eps)
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    value = value * scale[None, :] + shift[None, :]
    if ADD:
        value += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        value = tl.where(value < 0, 0.0, value)  # what is no number stays none, and ends the run
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _back_sums(
    gradient, more, x, out, masked, partial, weight, bias, mean, variance, eps, rows, columns, programs,
    MORE: tl.constexpr, ADD: tl.constexpr, RELU: tl.constexpr,
    ROWS: tl.constexpr, FOLDED: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Partial sums of the gradient before the ReLU, and of it times x - mean.

    With MORE the gradient behind the ReLU comes in two parts. With ADD the one before it is written to
    `masked`: it is also the gradient of what was added.
    """
    column, known, place = _columns(columns, COLUMNS)
    tiles = tl.cdiv(rows, ROWS)
    centre, _, scale, shift = _scales(weight, bias, mean, variance, column, known, eps)
    one = tl.zeros((FOLDED, COLUMNS), tl.float32)
    two = tl.zeros((FOLDED, COLUMNS), tl.float32)
    for tile in range(place, tiles, programs):
        at, inside = _tile(column, known, (tiles - 1 - tile) * ROWS, rows, columns, ROWS)
        slope = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
        if MORE:
            slope += tl.load(more + at, mask=inside, other=0.0).to(tl.float32)
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        if RELU:
            if ADD:
                slope = tl.where(tl.load(out + at, mask=inside, other=0.0) > 0, slope, 0.0)
            else:
                slope = tl.where(value * scale[None, :] + shift[None, :] > 0, slope, 0.0)
        if ADD:
            tl.store(masked + at, slope.to(masked.dtype.element_ty), mask=inside)
        one += _folded(slope, ROWS, FOLDED, COLUMNS)
        two += _folded(tl.where(inside, slope * (value - centre[None, :]), 0.0), ROWS, FOLDED, COLUMNS)
    _keep(partial, place, one, two, columns, column, known)


@triton.jit
def _back_moments(
    partial, variance, weight_gradient, bias_gradient, programs, columns, eps,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column, known, _ = _columns(columns, COLUMNS)
    one, two = _add_up(partial, programs, columns, column, known, ROWS, COLUMNS)
    inverse = 1.0 / tl.sqrt(tl.load(variance + column, mask=known, other=1.0) + eps)
    tl.store(bias_gradient + column, one, mask=known)
    tl.store(weight_gradient + column, two * inverse, mask=known)


@triton.jit
def _back_apply(
    gradient, x, out, weight, bias, mean, variance, weight_gradient, bias_gradient, eps, rows, columns,
    RELU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column, known, place = _columns(columns, COLUMNS)
    start = place * ROWS
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


def _shared(rows: int, columns: int, tile: int, programs: int) -> tuple[int, int]:
    """Blocks of columns, and programs that share the rows of each."""
    across = triton.cdiv(columns, _COLUMNS)
    return across, max(1, min(triton.cdiv(rows, tile), programs // across))


_TILE = {"ROWS": _ROWS, "COLUMNS": _COLUMNS, "num_warps": _WARPS}
_SUM_TILE = _TILE | {"ROWS": _SUM_ROWS, "FOLDED": _FOLDED}
_BACK_TILE = _TILE | {"ROWS": _BACK_ROWS}
_BACK_SUM_TILE = _BACK_TILE | {"FOLDED": _FOLDED}
_FINAL = {"ROWS": _FINAL_ROWS, "COLUMNS": _FINAL_COLUMNS, "num_warps": _WARPS}


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance [C], float32."""
    columns, rows = x.shape[1], x.numel() // x.shape[1]
    across, programs = _shared(rows, columns, _SUM_ROWS, _PROGRAMS)
    partial, mean, variance = _floats(x, programs, 2, columns), _floats(x, columns), _floats(x, columns)
    _sums[(across * programs,)](x, partial, rows, columns, programs, **_SUM_TILE)
    _moments[_last(columns)](x, partial, mean, variance, programs, rows, columns, **_FINAL)
    return mean, variance


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, relu: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The output like `x`, and mean and (biased) variance [C], float32."""
    columns, rows = x.shape[1], x.numel() // x.shape[1]
    mean, variance = moments(x)
    out = torch.empty_like(x)
    added = x if residual is None else residual
    _apply[_tiles(rows, columns, _ROWS)](
        x, added, out, weight, bias, mean, variance, eps, rows, columns,
        ADD=residual is not None, RELU=relu, **_TILE,
    )  # fmt: skip
    return out, mean, variance


def back_sums(
    gradient: Tensor, more: Tensor | None, x: Tensor, out: Tensor | None, weight: Tensor, bias: Tensor,
    mean: Tensor, variance: Tensor, relu: bool, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of weight, bias and, where `out` is given, of what was added (else an empty tensor)."""
    columns, rows = x.shape[1], x.numel() // x.shape[1]
    across, programs = _shared(rows, columns, _BACK_ROWS, _BACK_PROGRAMS)
    partial, by_weight, by_bias = _floats(x, programs, 2, columns), _floats(x, columns), _floats(x, columns)
    added = out is not None
    masked = torch.empty_like(x) if added else x.new_empty(0)
    _back_sums[(across * programs,)](
        gradient, gradient if more is None else more, x, out if added else x, masked, partial, weight, bias,
        mean, variance, eps, rows, columns, programs,
        MORE=more is not None, ADD=added, RELU=relu, **_BACK_SUM_TILE,
    )  # fmt: skip
    _back_moments[_last(columns)](partial, variance, by_weight, by_bias, programs, columns, eps, **_FINAL)
    return by_weight, by_bias, masked


def backward(
    gradient: Tensor, more: Tensor | None, x: Tensor, out: Tensor | None, weight: Tensor, bias: Tensor,
    mean: Tensor, variance: Tensor, relu: bool, eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, weight, bias and, where `out` is given, of what was added (else an empty tensor).

    The gradient of the output is the sum of `gradient` and, where given, `more`; that needs `out`.
    """
    norm = weight, bias, mean, variance
    by_weight, by_bias, masked = back_sums(gradient, more, x, out, *norm, relu, eps)
    columns, rows = x.shape[1], x.numel() // x.shape[1]
    moved, added = torch.empty_like(x), out is not None
    _back_apply[_tiles(rows, columns, _BACK_ROWS)](
        masked if added else gradient, x, moved, *norm, by_weight, by_bias, eps,
        rows, columns, RELU=relu and not added, **_BACK_TILE,
    )  # fmt: skip
    return moved, by_weight, by_bias, masked


def _tiles(rows: int, columns: int, tile: int) -> tuple[int]:
    return (triton.cdiv(columns, _COLUMNS) * triton.cdiv(rows, tile),)


def _last(columns: int) -> tuple[int]:
    return (triton.cdiv(columns, _FINAL_COLUMNS),)


def _floats(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)
