"""The gradient of an embedding table, taken by PyTorch's own kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional

# Tables of so few rows (token types) have thousands of gradients to add for each.
_FEW_ROWS = 4


def lookup(ids: Tensor, weight: Tensor, padding: int | None = None) -> Tensor:
    """`functional.embedding`; the gradient's sums are not left to the compiler.

    In deterministic mode it adds the rows of one index one after the other: a third of BERT's time, for the
    one token type that all tokens have.
    """
    made: Tensor = _Lookup.apply(ids, weight, padding)
    return made


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor, padding: int | None) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows, ctx.padding = len(weight), -1 if padding is None else padding % len(weight)
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        (ids,) = ctx.saved_tensors
        if ctx.rows > _FEW_ROWS:
            return None, table_gradient(gradient.contiguous(), ids.contiguous(), ctx.rows, ctx.padding), None
        flat, ids = gradient.flatten(0, -2), ids.flatten()
        sums = [
            torch.where((ids == row)[:, None], flat, 0.0).sum(0) * float(row != ctx.padding)
            for row in range(ctx.rows)
        ]
        return None, torch.stack(sums), None


@torch.library.custom_op("retrainer::table_gradient", mutates_args=())
def table_gradient(gradient: Tensor, ids: Tensor, rows: int, padding: int) -> Tensor:
    """Of a table's `rows`, by the gradients [..., D] of what was looked up; none counts for `padding`."""
    return torch.ops.aten.embedding_dense_backward(gradient, ids, rows, padding, False)


@table_gradient.register_fake
def _(gradient: Tensor, ids: Tensor, rows: int, padding: int) -> Tensor:  # noqa: ARG001
    return gradient.new_empty(rows, gradient.shape[-1])


def plain_lookup(node: Node) -> bool:
    """No row is rescaled, no gradient by frequency, none sparse."""
    options = [*node.args[3:], *node.kwargs.values()]
    return not any(option for option in options if option != 2.0) and not node.kwargs
