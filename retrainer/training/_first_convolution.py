"""A convolution of 7×7 with a step of 2 over 1 to 4 channels, as one of 4×4 over 16; its weight's gradient.

Each 2×2 pixels become channels of one, and so do the filters, padded to 8×8. The products are the same; GPUs
are slow at 3 channels. For the gradient cuDNN has only kernels that take many times as long as the memory's
traffic.

Legend: B rows, O outputs, H, W of the output.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHANNELS, SIDE = 16, 4
_LAST = torch.channels_last


def first_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """`conv2d(x, weight, stride=2, padding=3)`; for x no gradient is computed."""
    outputs, channels = weight.shape[:2]
    spare = CHANNELS - 4 * channels
    dtype = x.dtype
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    x = functional.pad(functional.pixel_unshuffle(x, 2), (2, 1, 2, 1, 0, spare))
    weight = functional.pad(weight, (1, 0, 1, 0)).view(outputs, channels, SIDE, 2, SIDE, 2)
    weight = weight.permute(0, 1, 3, 5, 2, 4).reshape(outputs, 4 * channels, SIDE, SIDE)
    weight = functional.pad(weight, (0, 0, 0, 0, 0, spare))
    made: Tensor = _Convolution.apply(x.to(dtype).contiguous(memory_format=_LAST), weight)
    return made


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.conv2d(x, weight.to(x.dtype).contiguous(memory_format=_LAST))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        (x,) = ctx.saved_tensors
        return None, weight_gradient(gradient.contiguous(memory_format=_LAST), x)


@torch.library.custom_op("retrainer::first_weight_gradient", mutates_args=())
def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """By the output's gradient [B, O, H, W] and the input [B, 16, H + 3, W + 3]: float32 [O, 16, 4, 4]."""
    outputs = gradient.shape[1]
    if x.is_cuda:
        from retrainer.training import _first_convolution_kernels as kernels

        if kernels.fits(gradient):
            return kernels.weight_gradient(gradient, x).contiguous()
    shape = (outputs, CHANNELS, SIDE, SIDE)
    return torch.nn.grad.conv2d_weight(x, shape, gradient).float().contiguous()


@weight_gradient.register_fake
def _(gradient: Tensor, x: Tensor) -> Tensor:  # noqa: ARG001
    return gradient.new_empty(gradient.shape[1], CHANNELS, SIDE, SIDE, dtype=torch.float32)
