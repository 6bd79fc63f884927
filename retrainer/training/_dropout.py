"""Dropout on a CPU, where PyTorch draws a number for every value, slowly.

One draw of 64 bits decides on four values: 16 bits each tell 1/65536 from none. On short texts, drawing was
a tenth of a training step (measured); this takes a third of that. A GPU's own kernel is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEVELS = 1 << 16


@contextmanager
def quick_dropout(body: nn.Module) -> Iterator[None]:
    """Inside, the dropout layers of a body on the CPU draw this way."""
    parts = [part for part in body.modules() if type(part) is nn.Dropout and not part.inplace]
    on_cpu = all(p.device.type == "cpu" for p in body.parameters())
    changed = parts if on_cpu else []
    for part in changed:
        part.forward = partial(_forward, part)
    try:
        yield
    finally:
        for part in changed:
            del part.forward  # the class's own is seen again


def _forward(part: nn.Dropout, values: Tensor) -> Tensor:
    return dropout(values, part.p) if part.training else values


def dropout(values: Tensor, p: float) -> Tensor:
    """`values` with each one 0 with probability `p`, to the nearest 1/65536, and the others raised for it."""
    dropped = round(p * _LEVELS)
    if not 0 < dropped < _LEVELS or torch.compiler.is_compiling():
        return functional.dropout(values, p)
    count = values.numel()
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(1 << 63), None)  # all 64 bits
    kept = draws.view(torch.int16)[:count].view(values.shape) >= dropped - _LEVELS // 2
    return values * kept.to(values.dtype).mul_(_LEVELS / (_LEVELS - dropped))
