"""What is put in place of some operations of a network before it is compiled for a GPU (decision 0030).

Works on the graph that `torch.compile` traces, so it holds for every family: batch norms with the addition and
the ReLU behind them become one operation; layer norms answer in bfloat16 under autocast; and the gradient of an
embedding table is taken by PyTorch's own kernel.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.nn import functional

from retrainer.training._fused_norm import norm_act

_ADDITIONS = (operator.add, operator.iadd, torch.add)
_RELUS = (functional.relu, torch.relu, torch.relu_)
# Tables of so few rows (token types) have thousands of gradients to add for each.
_FEW_ROWS = 4
# Sixteen bytes at once, in 16 bits a value.
_CHANNELS = 8


def rewrite(module: GraphModule) -> GraphModule:
    """Changes the graph in place and returns its module."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.target is functional.batch_norm:
            _rewrite_batch_norm(graph, node)
        elif node.target is functional.layer_norm and torch.is_autocast_enabled("cuda"):
            node.target = layer_norm
        elif node.target is functional.embedding and _plain_lookup(node):
            node.target, node.args, node.kwargs = Lookup.apply, node.args[:3], {}
    graph.lint()
    module.recompile()
    return module


# --- batch norm ----------------------------------------------------------------------------------------


def batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    momentum: float,
    eps: float,
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    """relu(batch norm in training + residual), the running statistics moved as PyTorch does."""
    x = x.contiguous(memory_format=torch.channels_last)
    if residual is not None:
        residual = residual.contiguous(memory_format=torch.channels_last)
    out, mean, variance = norm_act(x, weight, bias, residual, relu, eps)
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (count / (count - 1)), momentum)
    return out


def _rewrite_batch_norm(graph: Graph, node: Node) -> None:
    if len(node.args) != 8 or node.kwargs or not _fusable(node):
        return
    x, mean, variance, weight, bias, _, momentum, eps = node.args
    last, residual, relu = node, None, False
    following = _only_user(last)
    if following is not None and following.target in _ADDITIONS and _same_shape(following):
        other = [arg for arg in following.args if arg is not node]
        if len(following.args) == 2 and len(other) == 1 and _is_relu(_only_user(following)):
            last, residual = following, other[0]
            following = _only_user(following)
    if _is_relu(following):
        assert following is not None
        last, relu = following, True
    with graph.inserting_before(last):
        made = graph.call_function(
            batch_norm, (x, mean, variance, weight, bias, momentum, eps, residual, relu)
        )
    made.meta = dict(last.meta)
    last.replace_all_uses_with(made)
    # Operations in place count as having effects, and would be kept.
    while last is not node:
        before = next(arg for arg in last.args if isinstance(arg, Node) and _leads_to(arg, node))
        graph.erase_node(last)
        last = before
    graph.erase_node(node)


def _leads_to(found: Node, node: Node) -> bool:
    return found is node or node in found.args


def _fusable(node: Node) -> bool:
    """In training, with weights, statistics and a fixed momentum; of images whose channels fill whole reads."""
    made = _value(node)
    given = all(isinstance(arg, Node) for arg in node.args[:5])
    if not given or node.args[5] is not True or not isinstance(node.args[6], float) or made is None:
        return False
    return made.dim() == 4 and made.shape[1] % _CHANNELS == 0 and made.numel() > made.shape[1]


def _value(node: Any) -> Tensor | None:
    found = node.meta.get("example_value") if isinstance(node, Node) else None
    return found if isinstance(found, Tensor) else None


def _same_shape(addition: Node) -> bool:
    """Whether both are tensors of one shape and type."""
    values = [_value(arg) for arg in addition.args]
    kinds = {(value.shape, value.dtype) for value in values if value is not None}
    return len(kinds) == 1 and None not in values and not addition.kwargs


def _only_user(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_relu(node: Node | None) -> bool:
    return node is not None and node.target in _RELUS


# --- layer norm ----------------------------------------------------------------------------------------


def layer_norm(
    x: Tensor,
    shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Computed in float32, as autocast does, and rounded at once: what follows reads bfloat16 anyway.

    What is added to it (a shortcut behind the norm, as BERT's) then takes half of the memory's time.
    """
    with torch.autocast(x.device.type, enabled=False):
        made = functional.layer_norm(x.float(), shape, weight, bias, eps)
    return made.to(torch.get_autocast_dtype(x.device.type))


# --- embeddings ----------------------------------------------------------------------------------------


class Lookup(torch.autograd.Function):
    """`functional.embedding`; the gradient's sums are not left to the compiler.

    In deterministic mode it adds the rows of one index one after the other: a third of BERT's time for the one
    token type that all tokens have.
    """

    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor, padding: int | None = None) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows, ctx.padding = len(weight), -1 if padding is None else padding % len(weight)
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:  # type: ignore[override]
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
    """Of the `rows` of a table, by the gradients [..., D] of what was looked up. None counts for `padding`."""
    return torch.ops.aten.embedding_dense_backward(gradient, ids, rows, padding, False)


@table_gradient.register_fake
def _(gradient: Tensor, ids: Tensor, rows: int, padding: int) -> Tensor:  # noqa: ARG001
    return gradient.new_empty(rows, gradient.shape[-1])


def _plain_lookup(node: Node) -> bool:
    """No row is rescaled, no gradient by frequency, none sparse."""
    options = [*node.args[3:], *node.kwargs.values()]
    return not any(option for option in options if option != 2.0) and not node.kwargs
