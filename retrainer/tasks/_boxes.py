"""Images with the boxes of their objects, or with masks of their pixels: changed together in training.

An image keeps its proportions: it is scaled until it fits, and padded to the right and below with the mean
colour. Legend: N rows, B rows of a batch, C channels, H height, W width, M objects (padded).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

NO_OBJECT = -1.0  # in place of a class
# A box of which less is left inside the image tells of no object any more.
_LEAST_LEFT = 0.3


@dataclass(frozen=True)
class Augmentation:
    """The largest change of each kind; every image draws its own, evenly between none and that."""

    shift: int = 0  # pixels
    scale: float = 0.0  # 0.3: between 0.7 and 1.3 times the size
    flip: bool = False
    flip_vertical: bool = False
    colour: float = 0.0  # 0.2: brightness, contrast and saturation between 0.8 and 1.2 times

    @classmethod
    def of(cls, options: Any) -> Augmentation:
        """As a task's options of these names say."""
        return cls(options.shift, options.scale, options.flip, options.flip_vertical, options.colour)

    @property
    def moves(self) -> bool:
        return bool(self.shift or self.scale or self.flip or self.flip_vertical)


def augment(
    pixels: Tensor, targets: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Float pixels 0–255 [B, C, H, W] and objects [B, M, 5] (class or -1, corners) → the same, changed.

    What moves in from outside repeats the border. Boxes are cut to the image; of an object of which too
    little is left the class becomes -1.
    """
    pixels, drawn = _changed(pixels, augmentation, generator)
    return pixels, targets if drawn is None else _move_boxes(targets, *drawn, pixels.shape[2:])


def augment_masks(
    pixels: Tensor, masks: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The same for classes of pixels, int64 [B, H, W]: each pixel's is that of the place that it comes from,
    -1 where that lies outside.
    """
    pixels, drawn = _changed(pixels, augmentation, generator)
    if drawn is None:
        return pixels, masks
    grid = _grid(pixels, *drawn)
    # One more than the class, so that what comes from outside, a zero, is none.
    moved = functional.grid_sample(
        (masks + 1)[:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return pixels, moved[:, 0].long() - 1


def _changed(
    pixels: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """The images, and by what they were moved: `stretch` and `move`, each [B, 2] (x, y); None: not at all."""
    draws = (torch.rand(len(pixels), 8, generator=generator) * 2 - 1).to(pixels.device)
    if augmentation.colour:
        pixels = _recolour(pixels, 1 + augmentation.colour * draws[:, 5:])
    if not augmentation.moves:
        return pixels, None
    zoom = 1 + augmentation.scale * draws[:, 0]
    turned = torch.tensor([augmentation.flip, augmentation.flip_vertical], device=pixels.device)
    stretch = zoom[:, None] * torch.where((draws[:, 1:3] < 0) & turned, -1.0, 1.0)  # [B, 2]: x, y
    move = augmentation.shift * draws[:, 3:5]
    grid = _grid(pixels, stretch, move)
    moved = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved, (stretch, move)


def _recolour(pixels: Tensor, factors: Tensor) -> Tensor:
    """`factors` [B, 3] of brightness, contrast and saturation."""
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    pixels = pixels * brightness
    middle = pixels.mean((1, 2, 3), keepdim=True)
    pixels = middle + (pixels - middle) * contrast
    grey = pixels.mean(1, keepdim=True)
    return (grey + (pixels - grey) * saturation).clamp(0, 255)


def _grid(pixels: Tensor, stretch: Tensor, move: Tensor) -> Tensor:
    """Where each pixel comes from [B, H, W, 2]: a point p, from the centre, comes to stretch · p + move."""
    height, width = pixels.shape[2:]
    half = pixels.new_tensor([width, height]) / 2
    x = (torch.arange(width, device=pixels.device) + 0.5 - half[0] - move[:, :1]) / stretch[:, :1]
    y = (torch.arange(height, device=pixels.device) + 0.5 - half[1] - move[:, 1:]) / stretch[:, 1:]
    grid = pixels.new_empty(len(pixels), height, width, 2)
    grid[..., 0] = (x / half[0])[:, None, :]
    grid[..., 1] = (y / half[1])[:, :, None]
    return grid


def _move_boxes(targets: Tensor, stretch: Tensor, move: Tensor, size: torch.Size) -> Tensor:
    """Objects [B, M, 5], moved as `_grid` moves the pixels."""
    half = targets.new_tensor([size[1], size[0]]) / 2
    ends = targets[..., 1:].unflatten(-1, (2, 2))  # [B, M, 2 ends, 2: x, y]
    ends = (ends - half) * stretch[:, None, None, :] + move[:, None, None, :] + half
    ends = torch.stack([ends.amin(2), ends.amax(2)], dim=2)  # a mirrored box's left is its right
    inside = torch.minimum(ends.clamp(min=0), 2 * half)
    area, left = ((part[:, :, 1] - part[:, :, 0]).prod(-1) for part in (ends, inside))
    gone = (left < _LEAST_LEFT * area) | (left <= 0) | (targets[..., 0] < 0)
    classes = torch.where(gone, NO_OBJECT, targets[..., 0])
    return torch.cat([classes[..., None], inside.flatten(2)], dim=-1)
