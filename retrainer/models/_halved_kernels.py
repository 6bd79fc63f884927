"""Triton kernels of `_halved`: rows are positions of images, [C] in memory; a program has a tile of them."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

_COLUMNS, _ROWS = 64, 32


@triton.jit
def _place(rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """This program's rows [ROWS, 1] and columns [1, COLUMNS], and which of them there are."""
    across = tl.cdiv(columns, COLUMNS)
    row = (tl.program_id(0) // across * ROWS + tl.arange(0, ROWS))[:, None]
    column = (tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    return row, column, (row < rows) & (column < columns)


@triton.jit(do_not_specialize=["rows"])
def _halve(
    x, out, which, rows, columns, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row, column, there = _place(rows, columns, ROWS, COLUMNS)
    out_height, out_width = height // 2, width // 2
    image, down, right = row // (out_height * out_width), row // out_width % out_height, row % out_width
    best = tl.full((ROWS, COLUMNS), float("-inf"), tl.float32)
    tap_of_best = tl.zeros((ROWS, COLUMNS), tl.int32)
    for tap in tl.static_range(4):
        at = ((image * height + 2 * down + tap // 2) * width + 2 * right + tap % 2).to(tl.int64)
        value = tl.load(x + at * columns + column, mask=there, other=float("-inf")).to(tl.float32)
        better = (value > best) | (value != value)
        best = tl.where(better, value, best)
        tap_of_best = tl.where(better, tap, tap_of_best)
    at = row.to(tl.int64) * columns + column
    tl.store(out + at, best.to(out.dtype.element_ty), mask=there)
    tl.store(which + at, tap_of_best.to(tl.uint8), mask=there)


@triton.jit(do_not_specialize=["rows"])
def _back(
    gradient, which, made, rows, columns, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row, column, there = _place(rows, columns, ROWS, COLUMNS)
    out_height, out_width = height // 2, width // 2
    image, y, x = row // (height * width), row // width % height, row % width
    inside = there & (y // 2 < out_height) & (x // 2 < out_width)
    at = ((image * out_height + y // 2) * out_width + x // 2).to(tl.int64) * columns + column
    chosen = tl.load(which + at, mask=inside, other=255).to(tl.int32) == y % 2 * 2 + x % 2
    slope = tl.load(gradient + at, mask=inside, other=0.0)
    tl.store(made + row.to(tl.int64) * columns + column, tl.where(chosen, slope, 0.0), mask=there)


def forward(x: Tensor) -> tuple[Tensor, Tensor]:
    count, columns, height, width = x.shape
    out = _empty(x, height // 2, width // 2)
    which = torch.empty_like(out, dtype=torch.uint8)
    rows = count * (height // 2) * (width // 2)
    _halve[_grid(rows, columns)](x, out, which, rows, columns, height, width, ROWS=_ROWS, COLUMNS=_COLUMNS)
    return out, which


def backward(gradient: Tensor, which: Tensor, height: int, width: int) -> Tensor:
    made = _empty(gradient, height, width)
    rows, columns = len(gradient) * height * width, gradient.shape[1]
    _back[_grid(rows, columns)](
        gradient, which, made, rows, columns, height, width, ROWS=_ROWS, COLUMNS=_COLUMNS
    )
    return made


def _empty(like: Tensor, height: int, width: int) -> Tensor:
    shape = (*like.shape[:2], height, width)
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _grid(rows: int, columns: int) -> tuple[int]:
    return (triton.cdiv(rows, _ROWS) * triton.cdiv(columns, _COLUMNS),)
