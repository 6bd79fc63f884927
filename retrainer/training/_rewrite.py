"""What is put in place of some operations of a network before it is compiled for a GPU (decision 0030).

Works on the graph that `torch.compile` traces, so it holds for every family: batch norms become one operation
with the addition and the ReLU behind them; layer norms answer in bfloat16 under autocast; the gradient of an
embedding table is taken by PyTorch's own kernel; pooling and the first convolution have faster forms.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx import Graph, GraphModule, Node
from torch.nn import functional

from retrainer.training._fused_norm import norm_act
from retrainer.training._pool import EDGE, SIDE, STEP, max_pool

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
        elif node.target is functional.layer_norm and _autocasts(node):
            node.target = layer_norm
        elif node.target is functional.max_pool2d and _is_first_pool(node):
            node.target, node.args, node.kwargs = pool, node.args[:1], {}
        elif node.target is torch.conv2d and _is_first_convolution(node):
            node.target, node.args = first_convolution, node.args[:2]
        elif node.target is functional.scaled_dot_product_attention:
            _drop_full_mask(node)
        elif node.target is functional.embedding and _plain_lookup(node):
            node.target, node.args, node.kwargs = lookup, node.args[:3], {}
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
    """In training, with weights, statistics and a fixed momentum, of images with channels for whole reads."""
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


class JoinGradients(CustomGraphPass):
    """Where a block's output has two readers, the norm's gradient takes the sum of theirs on its way."""

    def __call__(self, graph: Graph) -> None:
        for node in graph.find_nodes(op="call_function", target=_NORM_BACKWARD):
            gradient, more, _, out, *_ = node.args
            parts = _parts_of_sum(gradient)
            if more is None and out is not None and parts is not None:
                node.args = (*parts, *node.args[2:])
                if "eager_input_vals" in node.meta:
                    values = torch.fx.map_arg((node.args, node.kwargs), lambda part: part.meta["val"])
                    node.meta["eager_input_vals"] = values
                graph.erase_node(gradient)

    def uuid(self) -> str:
        return "retrainer.JoinGradients 1"


_NORM_BACKWARD = torch.ops.retrainer.norm_act_backward.default


def _parts_of_sum(node: Any) -> list[Node] | None:
    """Both, where they are of one type, with the channels innermost, and nothing else reads their sum."""
    if node.target is not torch.ops.aten.add.Tensor or node.kwargs or len(node.users) != 1:
        return None
    parts = [arg for arg in node.args if isinstance(arg, Node)]
    values = [part.meta["val"] for part in (*parts, node)]
    alike = all(value.dtype == values[-1].dtype and value.shape == values[-1].shape for value in values)
    dense = all(
        value.is_contiguous(memory_format=torch.channels_last) for value in values if value.dim() == 4
    )
    return parts if len(parts) == 2 and alike and dense else None


# --- the first layers of residual networks --------------------------------------------------------------


def pool(x: Tensor) -> Tensor:
    return max_pool(x.contiguous(memory_format=torch.channels_last))[0]


def _is_first_pool(node: Node) -> bool:
    made = _value(node)
    names = ("kernel_size", "stride", "padding", "dilation")
    given = dict(zip(names, (_square(value) for value in node.args[1:]), strict=False))
    usual = given == {"kernel_size": SIDE, "stride": STEP, "padding": EDGE, "dilation": 1}
    plain = not node.kwargs.get("return_indices") and not node.kwargs.get("ceil_mode")
    return made is not None and made.dim() == 4 and usual and plain and made.shape[1] % _CHANNELS == 0


def _square(value: Any) -> Any:
    """3 of 3 or (3, 3)."""
    return value[0] if isinstance(value, tuple | list) and len(set(value)) == 1 else value


def first_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution of 7×7 with a step of 2 over 1 to 4 channels, as one of 4×4 over 16.

    Each 2×2 pixels become channels of one, and so do the filters, padded to 8×8. The products are the same;
    GPUs are slow at 3 channels.
    """
    outputs, channels = weight.shape[:2]
    spare = _STEM_CHANNELS - 4 * channels
    x = functional.pad(functional.pixel_unshuffle(x, 2), (2, 1, 2, 1, 0, spare))
    weight = functional.pad(weight, (1, 0, 1, 0)).view(outputs, channels, 4, 2, 4, 2)
    weight = weight.permute(0, 1, 3, 5, 2, 4).reshape(outputs, 4 * channels, 4, 4)
    weight = functional.pad(weight, (0, 0, 0, 0, 0, spare))
    layout = torch.channels_last
    return torch.conv2d(x.contiguous(memory_format=layout), weight.contiguous(memory_format=layout))


_STEM_CHANNELS = 16


def _is_first_convolution(node: Node) -> bool:
    x, weight = (_value(arg) for arg in node.args[:2])
    if x is None or weight is None or len(node.args) != 7 or node.kwargs or x.requires_grad:
        return False
    bias, *shape, groups = node.args[2:]
    usual = [_square(value) for value in shape] == [2, 3, 1] and bias is None and groups == 1
    small = weight.shape[1] <= _STEM_CHANNELS // 4 and tuple(weight.shape[2:]) == (7, 7)
    return usual and small and x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0


# --- attention -----------------------------------------------------------------------------------------


def _drop_full_mask(node: Node) -> None:
    """Leaves out a mask that lets everything through and follows from nothing that a batch could change.

    Some libraries make one whenever they are compiled; PyTorch's fastest attention takes none.
    """
    mask = node.kwargs.get("attn_mask")
    found: dict[Node, Any] = {}
    if isinstance(mask, Node) and _constant(mask, found):
        value = found[mask]
        if isinstance(value, Tensor) and bool(
            value.all() if value.dtype is torch.bool else (value == 0).all()
        ):
            node.kwargs = {**node.kwargs, "attn_mask": None}


def _constant(node: Node, found: dict[Node, Any]) -> bool:
    """Whether a node's value depends on no input, and is changed by nobody; then it is in `found`."""
    if node in found:
        return True
    if node.op not in ("call_function", "call_method") or any(map(_changes, (node, *node.users))):
        return False
    if not all(_constant(before, found) for before in node.all_input_nodes):
        return False
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda before: found[before])
    with unset_fake_temporarily(), torch.no_grad():
        if node.op == "call_method":
            found[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        else:
            assert callable(node.target)
            found[node] = node.target(*args, **kwargs)
    return True


def _changes(node: Node) -> bool:
    """Whether it may write into what it is given, or draw."""
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    return name.endswith("_") or name in ("setitem", *_IN_PLACE) or "rand" in name


_IN_PLACE = ("iadd", "isub", "imul", "iand", "ior", "ixor")


# --- layer norm ----------------------------------------------------------------------------------------


def _autocasts(node: Node) -> bool:
    made = _value(node)
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


# --- embeddings ----------------------------------------------------------------------------------------


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


def _plain_lookup(node: Node) -> bool:
    """No row is rescaled, no gradient by frequency, none sparse."""
    options = [*node.args[3:], *node.kwargs.values()]
    return not any(option for option in options if option != 2.0) and not node.kwargs
