"""Triton kernels of `_norm_pool`. Rows are windows, [C] in memory; a program has a tile of them.

Each 2×2 inputs belong to the window whose middle is the first of them, and to the windows right of and below
it.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from retrainer.training import _norm_kernels
from retrainer.training._norm_kernels import _columns, _scales
from retrainer.training._norm_pool import pooled

_COLUMNS, _ROWS, _BACK_ROWS, _WARPS = 64, 16, 8, 4


@triton.jit
def _windows(place, rows, height, width, known, ROWS: tl.constexpr):
    """Of this program's windows [ROWS, 1]: number, image, row and column, and which of them there are."""
    row = (place * ROWS + tl.arange(0, ROWS))[:, None]
    return row, row // (height * width), row // width % height, row % width, (row < rows) & known[None, :]


@triton.jit
def _pool(
    x, out, best, which, weight, bias, mean, variance, eps,
    rows, columns, height, width, out_height, out_width, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column, known, place = _columns(columns, COLUMNS)
    _, _, scale, shift = _scales(weight, bias, mean, variance, column, known, eps)
    sign = tl.where(tl.load(weight + column, mask=known, other=1.0) < 0, -1.0, 1.0)[None, :]
    row, image, down, right, there = _windows(place, rows, out_height, out_width, known, ROWS)
    top = tl.full((ROWS, COLUMNS), float("-inf"), tl.float32)
    tap_of_top = tl.zeros((ROWS, COLUMNS), tl.int32)
    for tap in tl.static_range(9):
        y, x_ = 2 * down - 1 + tap // 3, 2 * right - 1 + tap % 3
        inside = there & (y >= 0) & (y < height) & (x_ >= 0) & (x_ < width)
        at = ((image * height + y) * width + x_).to(tl.int64) * columns + column[None, :]
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) * sign
        better = inside & (value > top)
        top = tl.where(better, value, top)
        tap_of_top = tl.where(better, tap, tap_of_top)
    top *= sign
    value = top * scale[None, :] + shift[None, :]
    value = tl.where(value < 0, 0.0, value)
    at = row.to(tl.int64) * columns + column[None, :]
    tl.store(out + at, value.to(out.dtype.element_ty), mask=there)
    tl.store(best + at, top.to(best.dtype.element_ty), mask=there)
    tl.store(which + at, tap_of_top.to(tl.uint8), mask=there)


@triton.jit
def _won(gradient, which, at, there):
    """A window's gradient, and which of its nine inputs it belongs to."""
    slope = tl.load(gradient + at, mask=there, other=0.0).to(tl.float32)
    return slope, tl.load(which + at, mask=there, other=255).to(tl.int32)


@triton.jit
def _move(x, made, at, there, slope, centre, scale, shift, one, two):
    """The gradient of one of the 2×2 inputs, by that of what it became."""
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    slope = tl.where(value * scale + shift > 0, slope, 0.0)
    moved = scale * (slope - one - (value - centre) * two)
    tl.store(made + at, moved.to(made.dtype.element_ty), mask=there)


@triton.jit
def _back(
    gradient, which, x, made, weight, bias, mean, variance, weight_gradient, bias_gradient, eps,
    inputs, rows, columns, height, width, out_height, out_width, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column, known, place = _columns(columns, COLUMNS)
    centre, inverse, scale, shift = _scales(weight, bias, mean, variance, column, known, eps)
    one = (tl.load(bias_gradient + column, mask=known, other=0.0) / inputs)[None, :]
    two = (tl.load(weight_gradient + column, mask=known, other=0.0) * inverse / inputs)[None, :]
    centre, scale, shift = centre[None, :], scale[None, :], shift[None, :]
    row, image, down, right, there = _windows(place, rows, out_height, out_width, known, ROWS)
    # This window, the one right of it, the one below, and the one right of that.
    at = row.to(tl.int64) * columns + column[None, :]
    more_right, more_down = there & (right + 1 < out_width), there & (down + 1 < out_height)
    here, tap = _won(gradient, which, at, there)
    beside, beside_tap = _won(gradient, which, at + columns, more_right)
    below, below_tap = _won(gradient, which, at + out_width * columns, more_down)
    across, across_tap = _won(gradient, which, at + (out_width + 1) * columns, more_right & more_down)
    at = ((image * height + 2 * down) * width + 2 * right).to(tl.int64) * columns + column[None, :]
    right_in, down_in = there & (2 * right + 1 < width), there & (2 * down + 1 < height)
    slope = tl.where(tap == 4, here, 0.0)
    _move(x, made, at, there, slope, centre, scale, shift, one, two)
    slope = tl.where(tap == 5, here, 0.0) + tl.where(beside_tap == 3, beside, 0.0)
    _move(x, made, at + columns, right_in, slope, centre, scale, shift, one, two)
    slope = tl.where(tap == 7, here, 0.0) + tl.where(below_tap == 1, below, 0.0)
    _move(x, made, at + width * columns, down_in, slope, centre, scale, shift, one, two)
    slope = tl.where(tap == 8, here, 0.0) + tl.where(beside_tap == 6, beside, 0.0)
    slope += tl.where(below_tap == 2, below, 0.0) + tl.where(across_tap == 0, across, 0.0)
    _move(x, made, at + (width + 1) * columns, right_in & down_in, slope, centre, scale, shift, one, two)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    count, columns, height, width = x.shape
    mean, variance = _norm_kernels.moments(x)
    shape = (count, columns, *pooled(x))
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    best, which = torch.empty_like(out), torch.empty_like(out, dtype=torch.uint8)
    rows = out.numel() // columns
    _pool[_grid(rows, columns, _ROWS)](
        x, out, best, which, weight, bias, mean, variance, eps, rows, columns, height, width, *shape[2:],
        ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=_WARPS,
    )  # fmt: skip
    return out, best, which, mean, variance


def backward(
    gradient: Tensor, x: Tensor, best: Tensor, which: Tensor, weight: Tensor, bias: Tensor,
    mean: Tensor, variance: Tensor, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    columns, height, width = x.shape[1:]
    norm = weight, bias, mean, variance
    by_weight, by_bias, _ = _norm_kernels.back_sums(gradient, None, best, None, *norm, True, eps)
    made, rows = torch.empty_like(x), gradient.numel() // columns
    _back[_grid(rows, columns, _BACK_ROWS)](
        gradient, which, x, made, *norm, by_weight, by_bias, eps,
        x.numel() // columns, rows, columns, height, width, *gradient.shape[2:],
        ROWS=_BACK_ROWS, COLUMNS=_COLUMNS, num_warps=_WARPS,
    )  # fmt: skip
    return made, by_weight, by_bias


def _grid(rows: int, columns: int, tile: int) -> tuple[int]:
    return (triton.cdiv(rows, tile) * triton.cdiv(columns, _COLUMNS),)
