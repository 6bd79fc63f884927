"""Random changes of shape and colour: each image draws two kinds and how strong each is.

RandAugment (Cubuk et al. 2020, arXiv:1909.13719) with strengths drawn evenly up to the largest, as in
TrivialAugment (Müller and Hutter 2021, arXiv:2103.10158). Drawn per image, computed for the whole batch.
Legend: B images, C channels, H height, W width; pixels are float, 0 to 255.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_CHANGES = 2
# The largest changes of shape, and of a colour's factor, as torchvision has them.
_SHEAR, _SHIFT, _DEGREES, _FACTOR = 0.3, 0.45, 30.0, 0.9
_BITS, _WHITE = 4, 255.0
_SHAPES = ("shear_x", "shear_y", "shift_x", "shift_y", "rotate")


@dataclass(frozen=True)
class Changes:
    """`kinds` is int64 [B, 2] into `KINDS`; `strengths` float32 [B, 2] from -1 to 1, magnitude included."""

    kinds: Tensor
    strengths: Tensor

    def of(self, kind: str, slot: int) -> Tensor:
        """The strength of each image's `slot`-th change, 0 where that is of another kind: [B, 1, 1]."""
        drawn = torch.where(self.kinds[:, slot] == KINDS.index(kind), self.strengths[:, slot], 0.0)
        return drawn[:, None, None]


def draw(count: int, magnitude: float, generator: torch.Generator) -> Changes:
    """For `count` images, on the CPU; `magnitude` from 0 to 10."""
    kinds = torch.randint(len(KINDS), (count, _CHANGES), generator=generator)
    strengths = torch.rand(count, _CHANGES, generator=generator) * 2 - 1
    return Changes(kinds, strengths * (magnitude / 10))


def reshape(changes: Changes, slot: int, height: int, width: int) -> tuple[Tensor, ...]:
    """Where a pixel (x, y) from the centre comes from: (xx, xy, yx, yy, right, down), each [B, 1, 1].

    That is (xx·x + xy·y - right, yx·x + yy·y - down).
    """
    angle = changes.of("rotate", slot) * math.radians(_DEGREES)
    sine, cosine = angle.sin(), angle.cos()
    return (
        cosine,
        changes.of("shear_x", slot) * _SHEAR - sine,
        changes.of("shear_y", slot) * _SHEAR + sine,
        cosine,
        changes.of("shift_x", slot) * _SHIFT * width,
        changes.of("shift_y", slot) * _SHIFT * height,
    )


def recolour(pixels: Tensor, changes: Changes) -> Tensor:
    """[B, C, H, W] → the same shape, in place; each image's changes of colour in the order of their slots."""
    for slot in range(_CHANGES):
        for kind, change in _COLOURS.items():
            rows = (changes.kinds[:, slot] == KINDS.index(kind)).nonzero()[:, 0]
            if len(rows):
                strengths = changes.strengths[rows, slot].to(pixels.device)[:, None, None, None]
                rows = rows.to(pixels.device)
                pixels[rows] = change(pixels[rows], strengths).clamp_(0, _WHITE)
    return pixels


def _grey(pixels: Tensor) -> Tensor:
    """[B, 1, H, W]"""
    if pixels.shape[1] != 3:
        return pixels.mean(1, keepdim=True)
    weights = pixels.new_tensor([0.299, 0.587, 0.114])  # ITU-R BT.601, what the eye sees of each colour
    return (pixels * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)


def _from(plain: Tensor, pixels: Tensor, strength: Tensor) -> Tensor:
    """Away from (above 0) or towards a plainer version of the image."""
    return plain + (pixels - plain) * (1 + _FACTOR * strength)


def _brightness(pixels: Tensor, strength: Tensor) -> Tensor:
    return _from(torch.zeros_like(pixels), pixels, strength)


def _contrast(pixels: Tensor, strength: Tensor) -> Tensor:
    return _from(_grey(pixels).mean((1, 2, 3), keepdim=True), pixels, strength)


def _saturation(pixels: Tensor, strength: Tensor) -> Tensor:
    return _from(_grey(pixels), pixels, strength)


def _sharpness(pixels: Tensor, strength: Tensor) -> Tensor:
    blurred = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return _from(blurred, pixels, strength)


def _posterize(pixels: Tensor, strength: Tensor) -> Tensor:
    step = 2 ** (strength.abs() * _BITS).round()
    return (pixels / step).floor() * step


def _solarize(pixels: Tensor, strength: Tensor) -> Tensor:
    return torch.where(pixels > _WHITE * (1 - strength.abs()), _WHITE - pixels, pixels)


def _autocontrast(pixels: Tensor, strength: Tensor) -> Tensor:  # noqa: ARG001
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    return torch.where(high > low, (pixels - low) * (_WHITE / (high - low).clamp(min=1e-6)), pixels)


_COLOURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
}
KINDS = ("nothing", *_SHAPES, *_COLOURS)
