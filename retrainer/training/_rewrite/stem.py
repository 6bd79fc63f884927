"""The first layers of residual networks, in forms that a GPU computes faster: pooling and the convolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional

from retrainer.training._pool import EDGE, SIDE, STEP, max_pool
from retrainer.training._rewrite.graph import CHANNELS, square, value_of


def pool(x: Tensor) -> Tensor:
    return max_pool(x.contiguous(memory_format=torch.channels_last))[0]


def is_first_pool(node: Node) -> bool:
    made = value_of(node)
    names = ("kernel_size", "stride", "padding", "dilation")
    given = dict(zip(names, (square(value) for value in node.args[1:]), strict=False))
    usual = given == {"kernel_size": SIDE, "stride": STEP, "padding": EDGE, "dilation": 1}
    plain = not node.kwargs.get("return_indices") and not node.kwargs.get("ceil_mode")
    return made is not None and made.dim() == 4 and usual and plain and made.shape[1] % CHANNELS == 0


def first_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution of 7×7 with a step of 2 over 1 to 4 channels, as one of 4×4 over 16.

    Each 2×2 pixels become channels of one, and so do the filters, padded to 8×8. The products are the same;
    GPUs are slow at 3 channels.
    """
    outputs, channels = weight.shape[:2]
    spare = _STEM_CHANNELS - 4 * channels
    x = functional.pad(functional.pixel_unshuffle(x, 2), (2, 1, 2, 1, 0, spare))
    weight = functional.pad(weight, (1, 0, 1, 0)).view(outputs, channels, 4, 2, 4, 2)
    weight = weight.permute(0, 1, 3, 5, 2, 4).reshape(outputs, 4 * channels, 4, 4)
    weight = functional.pad(weight, (0, 0, 0, 0, 0, spare))
    layout = torch.channels_last
    return torch.conv2d(x.contiguous(memory_format=layout), weight.contiguous(memory_format=layout))


_STEM_CHANNELS = 16


def is_first_convolution(node: Node) -> bool:
    x, weight = (value_of(arg) for arg in node.args[:2])
    if x is None or weight is None or len(node.args) != 7 or node.kwargs or x.requires_grad:
        return False
    bias, *shape, groups = node.args[2:]
    usual = [square(value) for value in shape] == [2, 3, 1] and bias is None and groups == 1
    small = weight.shape[1] <= _STEM_CHANNELS // 4 and tuple(weight.shape[2:]) == (7, 7)
    return usual and small and x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0
