"""Parts of heads on a feature pyramid (Lin et al. 2017, arXiv:1612.03144)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

_GROUPS = 8


def top_down(levels: list[Tensor]) -> list[Tensor]:
    """Maps of one width, the finest first, each with all that the coarser ones know added."""
    for level in range(len(levels) - 2, -1, -1):
        coarser = functional.interpolate(levels[level + 1], size=levels[level].shape[2:], mode="nearest")
        levels[level] = levels[level] + coarser
    return levels


def separable_block(inner: int, outer: int) -> nn.Sequential:
    """A 3 × 3 convolution in two cheap parts (depthwise, then across), normalised."""
    return nn.Sequential(
        nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False),
        nn.Conv2d(inner, outer, 1, bias=False),
        nn.GroupNorm(_GROUPS, outer),
        nn.ReLU(inplace=True),
    )
