"""What all rewriting asks of a node of the traced graph."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.fx import Node

# Sixteen bytes at once, in 16 bits a value: what the kernels read.
CHANNELS = 8


def value_of(node: Any) -> Tensor | None:
    """The tensor that the node gave when it was traced, without values; None for anything else."""
    found = node.meta.get("example_value") if isinstance(node, Node) else None
    return found if isinstance(found, Tensor) else None


def only_user(node: Node) -> Node | None:
    """The one node that reads this one; None where several do, or none does."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def square(value: Any) -> Any:
    """3 of 3 or (3, 3)."""
    return value[0] if isinstance(value, tuple | list) and len(set(value)) == 1 else value
