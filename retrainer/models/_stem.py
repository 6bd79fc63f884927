"""The first layers of a residual network for small images: one 3×3 convolution, and no pooling.

As He et al. 2015 (arXiv:1512.03385, section 4.2) have it for CIFAR-10; the usual stem leaves a sixteenth of
an image's pixels before the first block.
"""

from __future__ import annotations

from torch import Tensor, nn

from retrainer.errors import SettingError

_FIRST, _POOLING = "conv1", "maxpool"


def make_small(module: nn.Module, name: str) -> None:
    """Puts the small stem in place of the first convolution and the pooling of the network `name`.

    Raises UserError where there is no such stem.
    """
    first = getattr(module, _FIRST, None)
    if not isinstance(first, nn.Conv2d) or not isinstance(getattr(module, _POOLING, None), nn.Module):
        raise SettingError(
            f"backbone.stem: small is for residual networks such as resnet18, and {name} has no first"
            " convolution with a pooling behind it; leave it out"
        )
    small = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=first.bias is not None)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    module.set_submodule(_FIRST, small)
    module.set_submodule(_POOLING, nn.Identity())


def require_same_stem(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raises UserError when the weights begin with filters of another size than the network."""
    first, given = getattr(module, _FIRST, None), tensors.get(f"{_FIRST}.weight")
    if isinstance(first, nn.Conv2d) and given is not None and given.shape[2:] != first.weight.shape[2:]:
        theirs, ours = ("×".join(map(str, tensor.shape[2:])) for tensor in (given, first.weight))
        raise SettingError(
            f"backbone.stem: the weights begin with {theirs} filters and this network with {ours}; set"
            " backbone.stem to what the weights were trained with (own or small), or train from scratch"
        )
