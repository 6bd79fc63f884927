"""The network of `whitened_conv`. Legend: B rows, C channels, H height, W width, D features.

After Jordan 2024 (arXiv:2404.00498), who built on Page 2018 ("How to train your ResNet"): filters that
whiten patches of the training images, then three groups of 3×3 convolutions that begin as the identity, each
of which halves the image's sides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrainer.models._halved import halved

PATCH = 2
# Added to each axis' variance, so that what hardly varies in patches is not blown up to the size of the rest.
_FEWEST_VARIANCE = 5e-4
# A norm's shift counts so many times: plain gradient descent then moves it 64 times as fast as a filter.
_SHIFT_FACTOR = 8.0
# Keeps the first answers near even odds.
_FEATURE_SCALE = 1 / 9


def largest(x: Tensor) -> Tensor:
    """[B, C, H, W] → [B, C]: of each map its largest value; of equal ones the first gets the gradient.

    `amax` looks in its backward pass for values equal to the largest. A compiled network computes them again
    without rounding them to bfloat16, so that none may be equal, and divides by their number (PyTorch's
    issues 195214 and 186799).
    """
    flat = x.flatten(2)
    there = torch.arange(flat.shape[2], device=x.device) == flat.argmax(2, keepdim=True)
    return torch.where(there, flat, 0.0).sum(2)


class WhitenedConv(nn.Module):
    """Images [B, C, H, W] → features [B, D]; in eval mode the mean of those of `views` views."""

    filters: Tensor

    def __init__(self, channels: int, widths: list[int], depth: int, views: int) -> None:
        super().__init__()
        whitened = 2 * channels * PATCH * PATCH
        self.views = views
        self.register_buffer("filters", torch.zeros(whitened, channels, PATCH, PATCH))
        self.bias = nn.Parameter(torch.zeros(whitened))
        inputs = [whitened, *widths[:-1]]
        self.groups = nn.Sequential(*(Group(i, o, depth) for i, o in zip(inputs, widths, strict=True)))

    def forward(self, pixels: Tensor) -> Tensor:
        if self.training or self.views == 1:
            return self.one_view(pixels)
        seen = self._with_mirror(pixels)
        if self.views == 2:
            return seen
        wide = functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
        shifted = (wide[:, :, :-2, :-2], wide[:, :, 2:, 2:])
        return (seen + sum(map(self._with_mirror, shifted)) / 2) / 2

    def _with_mirror(self, pixels: Tensor) -> Tensor:
        return (self.one_view(pixels) + self.one_view(pixels.flip(3))) / 2

    def one_view(self, pixels: Tensor) -> Tensor:
        whitened = functional.gelu(functional.conv2d(pixels, self.filters, self.bias))
        return largest(self.groups(whitened)) * _FEATURE_SCALE

    @torch.no_grad()
    def whiten(self, pixels: Tensor) -> None:
        """Sets the filters by images [B, C, H, W]: principal axes of their patches, each and its negative,
        to a variance of 1.
        """
        patches = pixels.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # [B, C, H, W, PATCH, PATCH]
        rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, self.filters[0].numel()).double()
        variances, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
        scaled = (axes / (variances + _FEWEST_VARIANCE).sqrt()).T.flip(0).reshape(-1, *self.filters.shape[1:])
        self.filters.copy_(torch.cat([scaled, -scaled]))


class Group(nn.Module):
    """[B, C, H, W] → [B, D, H/2, W/2]: a convolution and a pooling, then `depth` - 1 convolutions, the last
    two of three with a shortcut around them.
    """

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        self.first, self.first_norm = _convolution(inputs, outputs), Norm(outputs)
        self.further = nn.ModuleList(_convolution(outputs, outputs) for _ in range(depth - 1))
        self.further_norms = nn.ModuleList(Norm(outputs) for _ in range(depth - 1))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.first_norm(halved(self.first(x))))
        kept = x
        *inner, last = zip(self.further, self.further_norms, strict=True)
        for convolution, norm in inner:
            x = functional.gelu(norm(convolution(x)))
        convolution, norm = last
        x = norm(convolution(x))
        return functional.gelu(x + kept if inner else x)


class Norm(nn.BatchNorm2d):
    """BatchNorm without a scale of its own."""

    ones: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)
        self.shift = nn.Parameter(torch.zeros(width))
        self.register_buffer("ones", torch.ones(width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        shift = _SHIFT_FACTOR * self.shift
        return functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.ones,
            shift,
            self.training,
            self.momentum or 0.0,
            self.eps,
        )


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """3×3; its first filters pass on one channel each, and those beyond the inputs are random."""
    made = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(made.weight[:inputs])
    return made
