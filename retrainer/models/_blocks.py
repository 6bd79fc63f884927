"""A network's blocks, from its input to its features: what is frozen, slowed or adapted by depth."""

from __future__ import annotations

from collections import defaultdict

from torch import nn

# Each of their children is a step on the way; they compute nothing themselves.
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
# A single one repeats nothing.
_FEWEST = 2


def repeated_blocks(body: nn.Module) -> list[str]:
    """Names of the blocks, in the order of the network: residual blocks, encoder layers, …

    Of the modules with parts of their own that stand in a list or a sequence, those at the depth of the name
    that has the most of them; of a network without such, its linear and convolutional layers.
    """
    by_depth: dict[int, list[str]] = defaultdict(list)
    for name, module in body.named_modules():
        parent = body.get_submodule(name.rpartition(".")[0])
        if name and isinstance(parent, _CONTAINERS) and _compound(module):
            by_depth[name.count(".")].append(name)
    # The first of equals is the outermost.
    most = max((by_depth[depth] for depth in sorted(by_depth)), key=len, default=[])
    if len(most) >= _FEWEST:
        return most
    return [name for name, module in body.named_modules() if isinstance(module, _LAYERS)]


def _compound(module: nn.Module) -> bool:
    inner = (child for child in module.children() if any(True for _ in child.parameters()))
    return not isinstance(module, _CONTAINERS) and any(inner)


def depths(body: nn.Module, blocks: list[str]) -> dict[str, int]:
    """Each parameter's depth: 0 before the first block, i in or behind the i-th.

    Parameters stand in the order in which the network registers them. Those of its own outermost modules,
    such as a class token, count as its input.
    """
    found: dict[str, int] = {}
    begun = 0
    for name, _ in body.named_parameters():
        inside = next((i for i, block in enumerate(blocks, 1) if name.startswith(f"{block}.")), None)
        begun = max(begun, inside or 0)
        found[name] = inside or begun
    return found
