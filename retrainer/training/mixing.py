"""Rows blended with each other on their way into a step, and images that begin small.

Legend: B rows, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from retrainer.settings import Training

# Sides are multiples of this: what a network's strides divide.
_MULTIPLE = 8
_GROWING = 2 / 3


def mix(
    pixels: Tensor, targets: Tensor, classes: int, training: Training, draws: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Pixels [B, C, H, W] and targets ([B] or [B, K]) → the same of mixed rows, targets float32 [B, K].

    Each row draws its own partner and share: blended (mixup, Zhang et al. 2018, arXiv:1710.09412) or with a
    box of the partner's (cutmix, Yun et al. 2019, arXiv:1905.04899). With both on, half of the rows each.
    """
    count, _, height, width = pixels.shape
    soft = targets if targets.is_floating_point() else functional.one_hot(targets, classes)
    partner = torch.from_numpy(draws.permutation(count)).to(pixels.device)
    cut = draws.random(count) < (0.5 if training.mixup and training.cutmix else bool(training.cutmix))
    alpha = np.where(cut, training.cutmix, training.mixup)
    own: np.ndarray = np.asarray(draws.beta(alpha, alpha))  # share of the row itself
    outside = _outside_box(own, draws.random((2, count)), height, width)
    shares = np.where(cut[:, None, None], outside, own[:, None, None]).astype(np.float32)  # [B, H, W]
    share = torch.from_numpy(shares).to(pixels.device)
    blended = torch.lerp(pixels[partner], pixels, share[:, None])
    return blended, torch.lerp(soft[partner].float(), soft.float(), share.mean((1, 2))[:, None])


def _outside_box(own: np.ndarray, centre: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bool [B, H, W]: false in a box of 1 - `own` of the area, as far as it is in the image."""
    half = np.sqrt(1 - own) / 2
    inside = []
    for place, side in zip(centre, (height, width), strict=True):
        pixel = (np.arange(side) + 0.5) / side
        inside.append(np.abs(pixel - place[:, None]) < half[:, None])
    return ~(inside[0][:, :, None] & inside[1][:, None, :])


def side_share(training: Training, epoch: int, first: int, last: int) -> float:
    """Of an image's side in `epoch`: it grows evenly from `start_size`, and is 1 in the last third."""
    growing = math.ceil((last - first + 1) * _GROWING)
    return min(1.0, training.start_size + (1 - training.start_size) * (epoch - first) / growing)


def resize(pixels: Tensor, share: float) -> Tensor:
    """[B, C, H, W] → about `share` of both sides."""
    sides = [min(side, max(1, round(side * share / _MULTIPLE)) * _MULTIPLE) for side in pixels.shape[2:]]
    if share == 1 or sides == list(pixels.shape[2:]):
        return pixels
    layout = torch.channels_last if pixels.is_contiguous(memory_format=torch.channels_last) else None
    small = functional.interpolate(pixels, size=sides, mode="bilinear", antialias=True)
    return small.contiguous(memory_format=layout or torch.contiguous_format)
