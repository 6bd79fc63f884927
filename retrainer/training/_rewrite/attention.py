"""Attention without a mask that hides nothing, and masks that are the same for all queries of a row."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx import Node

from retrainer.training._rewrite.graph import value_of


def drop_full_mask(node: Node) -> None:
    """Leaves out a mask that lets everything through and follows from nothing that a batch could change.

    Some libraries make one whenever they are compiled; PyTorch's fastest attention takes none.
    """
    if _hides_nothing(node.kwargs.get("attn_mask")):
        node.kwargs = {**node.kwargs, "attn_mask": None}


def of_keys(node: Any) -> Node | None:
    """The mask [B, 1, 1, T] from which this one of queries and keys [B, 1, T, T] was made, if it was."""
    made = value_of(node)
    if made is None or made.dtype is not torch.bool or made.dim() != 4 or made.shape[1] != 1:
        return None
    if made.shape[2] == 1:
        return node if isinstance(node, Node) else None
    if node.target in ("expand", "to"):
        return of_keys(node.args[0])
    if node.target in (operator.and_, torch.bitwise_and, torch.logical_and):
        left = [arg for arg in node.args if not _hides_nothing(arg)]
        return of_keys(left[0]) if len(left) == 1 else None
    return None


def _hides_nothing(mask: Any) -> bool:
    """Whether it lets everything through, whatever the batch."""
    found: dict[Node, Any] = {}
    if not isinstance(mask, Node) or not _constant(mask, found):
        return False
    value = found[mask]
    return isinstance(value, Tensor) and bool((value if value.dtype is torch.bool else value == 0).all())


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
    if node.target in _HARMLESS:
        return False
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    return name.endswith("_") or name in ("setitem", *_IN_PLACE) or "rand" in name


# Functions whose names end like those of operations in place.
_HARMLESS = (operator.and_, operator.or_, operator.not_, operator.is_)
_IN_PLACE = ("iadd", "isub", "imul", "iand", "ior", "ixor")
