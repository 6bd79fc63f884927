"""Batch norms become one operation with the addition and ReLU behind them; layer norms answer in bfloat16."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.fx import Graph, Node
from torch.nn import functional

from retrainer.training import _encoder
from retrainer.training._fused_norm import norm_act
from retrainer.training._norm_pool import norm_pool
from retrainer.training._rewrite.graph import CHANNELS, only_user, value_of

_ADDITIONS = (operator.add, operator.iadd, torch.add)
_RELUS = (functional.relu, torch.relu, torch.relu_)


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
    _follow(x, running_mean, running_var, mean, variance, momentum)
    return out


def batch_norm_pool(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    momentum: float,
    eps: float,
) -> Tensor:
    """max_pool(relu(batch norm in training)), 3×3 with a step of 2."""
    x = x.contiguous(memory_format=torch.channels_last)
    out, _, _, mean, variance = norm_pool(x, weight, bias, eps)
    _follow(x, running_mean, running_var, mean, variance, momentum)
    return out


@torch.no_grad()
def _follow(
    x: Tensor, running_mean: Tensor, running_var: Tensor, mean: Tensor, variance: Tensor, momentum: float
) -> None:
    count = x.numel() // x.shape[1]
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(variance * (count / (count - 1)), momentum)


def rewrite_batch_norm(graph: Graph, node: Node) -> None:
    if len(node.args) != 8 or node.kwargs or not _fusable(node):
        return
    x, mean, variance, weight, bias, _, momentum, eps = node.args
    last, residual, relu = _joined_by(node)
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


def _joined_by(node: Node) -> tuple[Node, Any, bool]:
    """The last node that becomes one with this norm, what is added to it, and whether a ReLU is the last.

    An addition counts only with a ReLU behind it.
    """
    last, residual = node, None
    following = only_user(last)
    if following is not None and following.target in _ADDITIONS and _same_shape(following):
        other = [arg for arg in following.args if arg is not node]
        if len(following.args) == 2 and len(other) == 1 and _is_relu(only_user(following)):
            last, residual = following, other[0]
            following = only_user(following)
    if following is None or not _is_relu(following):
        return last, residual, False
    return following, residual, True


def _leads_to(found: Node, node: Node) -> bool:
    return found is node or node in found.args


def _fusable(node: Node) -> bool:
    """In training, with weights, statistics and a fixed momentum, of images with channels for whole reads."""
    made = value_of(node)
    given = all(isinstance(arg, Node) for arg in node.args[:5])
    if not given or node.args[5] is not True or not isinstance(node.args[6], float) or made is None:
        return False
    return made.dim() == 4 and made.shape[1] % CHANNELS == 0 and made.numel() > made.shape[1]


def _same_shape(addition: Node) -> bool:
    """Whether both are tensors of one shape and type."""
    values = [value_of(arg) for arg in addition.args]
    kinds = {(value.shape, value.dtype) for value in values if value is not None}
    return len(kinds) == 1 and None not in values and not addition.kwargs


def _is_relu(node: Node | None) -> bool:
    return node is not None and node.target in _RELUS


class JoinGradients(CustomGraphPass):
    """Where a block's output has two readers, the norm's gradient takes the sum of theirs on its way."""

    def __call__(self, graph: Graph) -> None:
        found = [*graph.find_nodes(op="call_function", target=_NORM_BACKWARD)]
        found = [node for node in found if node.args[3] is not None]
        for node in (*found, *graph.find_nodes(op="call_function", target=_LAYER_NORM_BACKWARD)):
            gradient, more, *_ = node.args
            parts = _parts_of_sum(gradient)
            if more is None and parts is not None:
                node.args = (*parts, *node.args[2:])
                if "eager_input_vals" in node.meta:
                    values = torch.fx.map_arg((node.args, node.kwargs), lambda part: part.meta["val"])
                    node.meta["eager_input_vals"] = values
                graph.erase_node(gradient)

    def uuid(self) -> str:
        return "retrainer.JoinGradients 2"


_NORM_BACKWARD = torch.ops.retrainer.norm_act_backward.default
_LAYER_NORM_BACKWARD = _encoder.add_norm_backward._opoverload


def _parts_of_sum(node: Any) -> list[Node] | None:
    """Both, where they are of one type, with the channels innermost, and nothing else reads their sum."""
    if node.target is not torch.ops.aten.add.Tensor or node.kwargs or len(node.users) != 1:
        return None
    parts = [arg for arg in node.args if isinstance(arg, Node)]
    values = [part.meta["val"] for part in (*parts, node)]
    alike = all(value.dtype == values[-1].dtype and value.shape == values[-1].shape for value in values)
    dense = all(value.is_contiguous(memory_format=_layout(value)) for value in values)
    return parts if len(parts) == 2 and alike and dense else None


def _layout(value: Tensor) -> torch.memory_format:
    return torch.channels_last if value.dim() == 4 else torch.contiguous_format


# --- layer norm ----------------------------------------------------------------------------------------


def autocasts(node: Node) -> bool:
    made = value_of(node)
    return made is not None and torch.is_autocast_enabled(made.device.type)


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
