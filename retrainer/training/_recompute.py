"""Gradient checkpointing: a block's activations are made again when its gradient is wanted, and not kept.

Chen et al. 2016, arXiv:1604.06174. The result is the same, to the bit on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from retrainer.messages import logger
from retrainer.models._network import Body

_LOG = logger("train")
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


@contextmanager
def recomputed(body: Body) -> Iterator[None]:
    """Inside, each block of `body.module` runs twice in a training step."""
    blocks = [body.module.get_submodule(name) for name in body.blocks(body.module)]
    if all(isinstance(block, _LAYERS) for block in blocks):
        _LOG.warning("training.checkpoint_activations saves nothing: this backbone has no blocks of layers")
    for block in blocks:
        contexts = partial(_contexts, block)
        block.forward = partial(_twice, block.forward, contexts)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # the class's own is seen again


def _twice(forward: Any, contexts: Any, *inputs: Any, **more: Any) -> Any:
    """As `checkpoint`, of lists as they are now: a dense block gives its layers one that grows."""
    held = [list(part) if isinstance(part, list) else part for part in inputs]
    return checkpoint(forward, *held, use_reentrant=False, context_fn=contexts, **more)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), _as_in_first_run(block, [(part, part.training) for part in block.modules()])


@contextmanager
def _as_in_first_run(block: nn.Module, modes: list[tuple[nn.Module, bool]]) -> Iterator[None]:
    """The second run is in the mode of the first one: a detector's loss changes it for a while."""
    now = [part.training for part, _ in modes]
    for part, training in modes:
        part.training = training
    try:
        with _statistics_held(block):
            yield
    finally:
        for (part, _), training in zip(modes, now, strict=True):
            part.training = training


@contextmanager
def _statistics_held(block: nn.Module) -> Iterator[None]:
    """The second run must not move BatchNorm's statistics once more."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    counted = [norm for norm in norms if norm.num_batches_tracked is not None]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in counted]
    for norm in counted:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(counted, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
