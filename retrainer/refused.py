"""What PyTorch's deterministic mode refuses, where the answer is wanted all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")
_REFUSED = "does not have a deterministic implementation"


def despite_refusal(call: Callable[[], Answer]) -> Answer:
    """What `call` returns. Where PyTorch's deterministic mode refuses one of its operations, as some have no
    such form on a GPU, it is called again without that mode."""
    try:
        return call()
    except RuntimeError as error:
        if _REFUSED not in str(error):
            raise
    import torch

    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        return call()
    finally:
        torch.set_deterministic_debug_mode(mode)
