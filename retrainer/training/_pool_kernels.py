"""Triton kernels of `_pool`: rows are positions of images, [C] in memory; a program has a tile of them."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from retrainer.training._pool import pooled

_COLUMNS, _ROWS = 64, 32


@triton.jit
def _place(rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """This program's rows [ROWS, 1] and columns [1, COLUMNS], and which of them there are."""
    across = tl.cdiv(columns, COLUMNS)
    row = (tl.program_id(0) // across * ROWS + tl.arange(0, ROWS))[:, None]
    column = (tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    return row, column, (row < rows) & (column < columns)


@triton.jit
def _pool(
    x, out, which, rows, columns, height, width, out_height, out_width,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row, column, there = _place(rows, columns, ROWS, COLUMNS)
    image, down, right = row // (out_height * out_width), row // out_width % out_height, row % out_width
    best = tl.full((ROWS, COLUMNS), float("-inf"), tl.float32)
    tap_of_best = tl.zeros((ROWS, COLUMNS), tl.int32)
    for tap in tl.static_range(9):
        y, x_ = 2 * down - 1 + tap // 3, 2 * right - 1 + tap % 3
        inside = there & (y >= 0) & (y < height) & (x_ >= 0) & (x_ < width)
        at = ((image * height + y) * width + x_).to(tl.int64) * columns + column
        value = tl.load(x + at, mask=inside, other=float("-inf")).to(tl.float32)
        better = (value > best) | (value != value)
        best = tl.where(better, value, best)
        tap_of_best = tl.where(better, tap, tap_of_best)
    at = row.to(tl.int64) * columns + column
    tl.store(out + at, best.to(out.dtype.element_ty), mask=there)
    tl.store(which + at, tap_of_best.to(tl.uint8), mask=there)


@triton.jit
def _back(
    gradient, which, made, rows, columns, height, width, out_height, out_width,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row, column, there = _place(rows, columns, ROWS, COLUMNS)
    image, y, x = row // (height * width), row // width % height, row % width
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for corner in tl.static_range(4):
        # An even place is in the middle of one window, an odd one at the edges of two.
        down, right = y // 2 + corner // 2, x // 2 + corner % 2
        inside = there & (down < out_height) & (right < out_width)
        inside = inside & ((corner // 2 == 0) | (y % 2 == 1)) & ((corner % 2 == 0) | (x % 2 == 1))
        tap = (y - 2 * down + 1) * 3 + x - 2 * right + 1
        at = ((image * out_height + down) * out_width + right).to(tl.int64) * columns + column
        chosen = tl.load(which + at, mask=inside, other=255).to(tl.int32) == tap
        total += tl.where(chosen, tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32), 0.0)
    tl.store(made + row.to(tl.int64) * columns + column, total.to(made.dtype.element_ty), mask=there)


def forward(x: Tensor) -> tuple[Tensor, Tensor]:
    count, columns, height, width = x.shape
    out_height, out_width = pooled(x)
    out = torch.empty(
        (count, columns, out_height, out_width), dtype=x.dtype, device=x.device,
        memory_format=torch.channels_last,
    )  # fmt: skip
    which = torch.empty_like(out, dtype=torch.uint8)
    rows = count * out_height * out_width
    _pool[_grid(rows, columns)](
        x, out, which, rows, columns, height, width, out_height, out_width, ROWS=_ROWS, COLUMNS=_COLUMNS
    )
    return out, which


def backward(gradient: Tensor, which: Tensor, height: int, width: int) -> Tensor:
    count, columns, out_height, out_width = gradient.shape
    made = torch.empty(
        (count, columns, height, width), dtype=gradient.dtype, device=gradient.device,
        memory_format=torch.channels_last,
    )  # fmt: skip
    rows = count * height * width
    _back[_grid(rows, columns)](
        gradient, which, made, rows, columns, height, width, out_height, out_width,
        ROWS=_ROWS, COLUMNS=_COLUMNS,
    )  # fmt: skip
    return made


def _grid(rows: int, columns: int) -> tuple[int]:
    return (triton.cdiv(rows, _ROWS) * triton.cdiv(columns, _COLUMNS),)
