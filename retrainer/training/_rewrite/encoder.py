"""What an encoder's layers do between their products becomes a few operations (`_attention`, `_encoder`).

    q, k, v = three products of one input, attention without a mask    →  one product, one operation
    layer norm of a shortcut plus dropout of a product                 →  one operation
    GELU of a product                                                  →  one operation

Dropout's draws come from seeds, one for each place, which the step draws at once.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.nn import functional

from retrainer.training._attention import MOST_TOKENS, attention
from retrainer.training._encoder import add_norm, gelu
from retrainer.training._rewrite.attention import of_keys
from retrainer.training._rewrite.graph import only_user, value_of

_ADDITIONS = (operator.add, operator.iadd, torch.add)
# What was compared with the formula on a GPU, and is faster there; PyTorch's attention has all other sizes.
_TOKENS, _HEAD_WIDTHS = range(65, MOST_TOKENS + 1), (64,)
_MOST_CHANNELS = 4096


class Encoder:
    """Rewrites the nodes of one graph. `finish` comes last."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._places = 0
        self._seeds: Node | None = None

    def attention(self, node: Node) -> None:
        found = _projections(node)
        if found is not None:
            options = (node.kwargs.get("dropout_p", 0.0), node.kwargs.get("scale"))
            _replace(self._graph, node, self._put(node, attended, *found, *options))

    def norm(self, node: Node) -> None:
        found = _summands(node)
        if found is not None:
            product, dropout, residual = found
            made = self._put(node, normed, *product.args, residual, *node.args[2:5], dropout)
            _replace(self._graph, node, made)

    def gelu(self, node: Node) -> None:
        product = node.args[0]
        if node.kwargs.get("approximate", "none") == "none" and _is_product(product):
            with self._graph.inserting_before(node):
                made = self._graph.call_function(activated, product.args)
            made.meta = dict(node.meta)
            _replace(self._graph, node, made)

    def finish(self) -> None:
        """Says how many seeds are drawn."""
        if self._seeds is not None:
            self._seeds.args = (self._places, *self._seeds.args[1:])

    def _put(self, node: Node, function: Any, *args: Any) -> Node:
        """A call in front of `node`, with the seeds and a place among them of its own."""
        if self._seeds is None:
            first = next(found for found in self._graph.nodes if found.op != "placeholder")
            example = value_of(node)
            assert example is not None
            with self._graph.inserting_before(first):
                self._seeds = self._graph.call_function(draw_seeds, (0, example.device))
        with self._graph.inserting_before(node):
            made = self._graph.call_function(function, (*args, self._seeds, self._places))
        self._places += 1
        made.meta = dict(node.meta)
        return made


def draw_seeds(count: int, device: torch.device) -> Tensor:
    return torch.randint(2**62, (count,), device=device)


def attended(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], mask: Tensor | None, heads: int, dropout: float,
    scale: float | None, seeds: Tensor, place: int,
) -> Tensor:  # fmt: skip
    """x [B, T, C] → what heads [B, H, T, D] attend to, by the projections to queries, keys and values."""
    packed = functional.linear(x, torch.cat(weights))
    packed = packed.view(*x.shape[:2], 3, heads, -1)
    width = packed.shape[-1]
    bias = torch.cat(biases).view(3, heads, width)
    if mask is not None:
        mask = mask.expand(len(x), 1, 1, -1).reshape(len(x), -1).contiguous()
    made = attention(packed, bias, mask, seeds, place, dropout, width**-0.5 if scale is None else scale)
    return made.transpose(1, 2)


def normed(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, norm_weight: Tensor, shift: Tensor, eps: float,
    dropout: float, seeds: Tensor, place: int,
) -> Tensor:  # fmt: skip
    product = functional.linear(x, weight)
    residual = residual.contiguous()
    return add_norm(product, bias, residual, norm_weight, shift, seeds, place, dropout, eps)


def activated(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return gelu(functional.linear(x, weight), bias)


def _projections(node: Node) -> tuple[Node, list[Any], list[Any], Node | None, int] | None:
    """The one input of queries, keys and values, their weights and biases, the mask of keys, and the heads.

    None where the kernels do not have the form.
    """
    made, options, mask = value_of(node.args[0]), node.kwargs, node.kwargs.get("attn_mask")
    if made is None or made.dtype != torch.bfloat16 or len(node.args) != 3:
        return None
    if made.shape[2] not in _TOKENS or made.shape[3] not in _HEAD_WIDTHS:
        return None
    if options.get("is_causal") or options.get("enable_gqa"):
        return None
    if mask is not None and (mask := of_keys(mask)) is None:
        return None
    products = [product for arg in node.args if (product := _behind_heads(arg, made)) is not None]
    if len(products) < 3 or len({product.args[0] for product in products}) > 1:
        return None
    x: Any = products[0].args[0]
    weights, biases = ([product.args[place] for product in products] for place in (1, 2))
    return x, weights, biases, mask, made.shape[1]


def _behind_heads(node: Any, like: Tensor) -> Node | None:
    """The product [B, T, C] that a view and a transposition give as heads, of the shape of `like`."""
    made = value_of(node)
    if made is None or made.shape != like.shape or node.target != "transpose" or node.args[1:] != (1, 2):
        return None
    view = node.args[0]
    if view.target not in ("view", "reshape") or only_user(node) is None or only_user(view) is None:
        return None
    product = view.args[0]
    before = value_of(product)
    return product if before is not None and before.dim() == 3 and _is_product(product) else None


def _summands(node: Node) -> tuple[Node, float, Node] | None:
    """The product, how much of it is dropped, and the shortcut, of a norm over the channels of their sum."""
    total: Any = node.args[0]
    channels: Any = node.args[1]
    if len(node.args) != 5 or None in node.args or len(channels) != 1 or channels[0] > _MOST_CHANNELS:
        return None
    if total.target not in _ADDITIONS or only_user(total) is None or len(total.args) != 2 or total.kwargs:
        return None
    if len({getattr(value_of(arg), "shape", None) for arg in total.args}) > 1:
        return None
    for one, other in (total.args, total.args[::-1]):
        product, dropout = _before_dropout(one)
        if _is_product(product) and isinstance(other, Node):
            return product, dropout, other
    return None


def _before_dropout(node: Any) -> tuple[Any, float]:
    if not isinstance(node, Node) or node.target is not functional.dropout or only_user(node) is None:
        return node, 0.0
    given = dict(zip(("p", "training", "inplace"), node.args[1:], strict=False)) | node.kwargs
    return node.args[0], float(given.get("p", 0.5)) if given.get("training", True) else 0.0


def _is_product(node: Any) -> bool:
    """Of an input and a weight with a bias, in bfloat16, which nothing else reads."""
    if not isinstance(node, Node) or node.target is not functional.linear or node.kwargs:
        return False
    made = value_of(node)
    bfloat16 = made is not None and made.dtype == torch.bfloat16
    return bfloat16 and only_user(node) is not None and len(node.args) == 3 and node.args[2] is not None


def _replace(graph: Graph, node: Node, made: Node) -> None:
    """Puts `made` in the node's place, and takes out what only the node has used."""
    node.replace_all_uses_with(made)
    unused = {node: True}
    while unused:
        last, _ = unused.popitem()
        if not last.users and last.op != "placeholder":
            unused |= dict.fromkeys(last.all_input_nodes, True)
            graph.erase_node(last)
