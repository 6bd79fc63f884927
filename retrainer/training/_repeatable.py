"""Whether a network's training repeats itself on a GPU, to the bit, and what happens where it cannot.

PyTorch has deterministic forms of most operations and refuses the others. In its mode that only warns it does
not use the deterministic form of attention, so that mode is only for networks that need it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from retrainer.messages import logger
from retrainer.models._network import Batch, Network
from retrainer.settings import Compute
from retrainer.training.compute import autocast

_LOG = logger("train")

_REFUSED = re.compile(r"(\S+) does not have a deterministic implementation")


def allow_what_cannot_repeat(
    network: Network,
    batch: Batch,
    loss: Callable[[Any], Tensor],
    compute: Compute,
    device: torch.device | None = None,
) -> str | None:
    """Tries a step of a copy on a small batch; an operation that PyTorch refuses may run from then on.

    `loss` takes the network's outputs; `device` is the network's own unless given. Returns the operation's
    name, or None; a name is printed too. Nothing of the network or of the generators moves.
    """
    trial = copy.deepcopy(network).train()
    device = device or next(trial.parameters()).device
    trial.to(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            with autocast(compute):
                made = loss(trial({name: tensor.to(device) for name, tensor in batch.items()}))
            made.sum().backward()
        except RuntimeError as error:
            refused = _REFUSED.search(str(error))
            if refused is None:
                raise
            torch.set_deterministic_debug_mode("warn")
            _LOG.warning(
                "this network uses %s, which does not repeat itself on a GPU: trained again, the model will"
                " not be the same to the bit",
                refused[1],
            )
            return refused[1]
    return None
