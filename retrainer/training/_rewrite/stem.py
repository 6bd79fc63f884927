"""Which first layers of residual networks are replaced by forms that a GPU computes faster."""

from __future__ import annotations

from torch.fx import Graph, Node

from retrainer.training._first_convolution import CHANNELS
from retrainer.training._norm_pool import EDGE, SIDE, STEP
from retrainer.training._rewrite.graph import only_user, square, value_of
from retrainer.training._rewrite.norms import batch_norm, batch_norm_pool


def rewrite_pool(graph: Graph, node: Node) -> None:
    """Pooling behind a norm with a ReLU, which has been rewritten, and that nothing else reads."""
    norm = node.args[0]
    if not isinstance(norm, Node) or norm.target is not batch_norm or only_user(norm) != node:
        return
    *given, residual, relu = norm.args
    if residual is None and relu and _is_first_pool(node):
        with graph.inserting_before(node):
            made = graph.call_function(batch_norm_pool, tuple(given))
        made.meta = dict(node.meta)
        node.replace_all_uses_with(made)
        graph.erase_node(node)
        graph.erase_node(norm)


def _is_first_pool(node: Node) -> bool:
    made = value_of(node)
    names = ("kernel_size", "stride", "padding", "dilation")
    given = dict(zip(names, (square(value) for value in node.args[1:]), strict=False))
    usual = given == {"kernel_size": SIDE, "stride": STEP, "padding": EDGE, "dilation": 1}
    plain = not node.kwargs.get("return_indices") and not node.kwargs.get("ceil_mode")
    return made is not None and made.dim() == 4 and usual and plain


def is_first_convolution(node: Node) -> bool:
    x, weight = (value_of(arg) for arg in node.args[:2])
    if x is None or weight is None or len(node.args) != 7 or node.kwargs or x.requires_grad:
        return False
    bias, *shape, groups = node.args[2:]
    usual = [square(value) for value in shape] == [2, 3, 1] and bias is None and groups == 1
    small = weight.shape[1] <= CHANNELS // 4 and tuple(weight.shape[2:]) == (7, 7)
    return usual and small and x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0
