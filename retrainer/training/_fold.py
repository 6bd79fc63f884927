"""BatchNorm of a network in eval mode is a scale and a shift: a convolution before it can do both at once.

Which convolution feeds which norm is seen in a forward pass, so any family's network can be folded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from retrainer.models._network import Batch, Network

# Rounding moves features by some 1e-6 of their size. More means that a convolution has other readers.
_LARGEST_CHANGE = 1e-4


@contextmanager
def folded(network: Network, probe: Batch) -> Iterator[None]:
    """Inside, the body (in eval mode) has each Conv2d and the BatchNorm2d right behind it as one layer.

    `probe` is a batch of one or more rows. A body whose features would change by more than rounding is left
    as it is; afterwards everything is as before.
    """
    with torch.no_grad():
        pairs = _pairs(network, probe)
        wanted = network.features(probe) if pairs else torch.empty(0)
        body = network.body
        before = {name: body.get_submodule(name) for pair in pairs for name in pair}
        for convolution, norm in pairs:
            joined = fuse_conv_bn_eval(before[convolution], before[norm])  # a copy
            body.set_submodule(convolution, joined)
            body.set_submodule(norm, nn.Identity())
        try:
            if pairs and (network.features(probe) - wanted).norm() > _LARGEST_CHANGE * wanted.norm():
                _put_back(body, before)
            yield
        finally:
            _put_back(body, before)


def _put_back(body: nn.Module, before: dict[str, nn.Module]) -> None:
    for name, module in before.items():
        body.set_submodule(name, module)


def _pairs(network: Network, probe: Batch) -> list[tuple[str, str]]:
    """Names of each convolution and the norm that reads its output as it is, both used once."""
    names = {module: name for name, module in network.body.named_modules()}
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # holding the tensor keeps its id from being used again
    found: list[tuple[nn.Module, nn.Module]] = []
    calls: list[nn.Module] = []

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append(module)
        if isinstance(module, nn.Conv2d):
            made[id(output)] = module, output
        elif id(inputs[0]) in made:
            found.append((made[id(inputs[0])][0], module))

    kinds = {nn.Conv2d, nn.BatchNorm2d}
    hooks = [m.register_forward_hook(after) for m in names if type(m) in kinds]
    try:
        network.features(probe)
    finally:
        for hook in hooks:
            hook.remove()
    once = {module for module in calls if calls.count(module) == 1}
    return [(names[c], names[n]) for c, n in found if c in once and n in once and n.track_running_stats]
