"""Attention without a mask that hides nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx import Node


def drop_full_mask(node: Node) -> None:
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
