"""A detector's head without anchors: FCOS (Tian et al. 2019, arXiv:1904.01355) on a feature pyramid
(Lin et al. 2017, arXiv:1612.03144) over any body's maps.

Every place of every map says which class its object has, how far the object's four sides are away, and how
near the place is to the object's centre. Legend: B images, A places of all maps, K classes, M objects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from retrainer.tasks._pyramid import separable_block, top_down

# An object belongs to the map whose stride is an eighth or more of its longest distance to a side.
_REACH = 8
# Places count as an object's up to so many strides from its centre (FCOS's centre sampling).
_CENTRE_RADIUS = 1.5
_PRIOR = 0.01  # of a place to show an object, at first: RetinaNet's, arXiv:1708.02002


@dataclass(frozen=True)
class Places:
    """`points` [A, 2] (x, y) in pixels; their maps' `strides` [A], and `reach` [A, 2]: sizes they are for."""

    points: Tensor
    strides: Tensor
    reach: Tensor


@dataclass(frozen=True)
class FcosOutputs:
    """`logits` [B, A, K], `sides` [B, A, 4] (pixels to left, top, right, bottom), `centerness` [B, A]."""

    logits: Tensor
    sides: Tensor
    centerness: Tensor
    places: Places

    def losses(self, targets: Tensor) -> Tensor:
        """Objects [B, M, 5] (class or -1, corners) → loss per image [B]: focal, generalised IoU, centre.

        Each is divided by the image's own number of places that show an object, so that an image's loss does
        not depend on those beside it.
        """
        chosen = assign(self.places, targets)  # [B, A], -1: background
        found = chosen >= 0
        rows = torch.arange(len(targets), device=targets.device)[:, None]
        true = targets[rows, chosen.clamp(min=0)]  # [B, A, 5]
        classes = self.logits.shape[2]
        wanted = functional.one_hot(true[..., 0].long().clamp(min=0), classes) * found[..., None]
        focal = sigmoid_focal_loss(self.logits.float(), wanted.float()).sum((1, 2))
        count = found.sum(1).clamp(min=1)
        image, place = found.nonzero(as_tuple=True)
        sides = _sides(self.places.points[place], true[image, place, 1:])
        near = _centerness(sides)
        corners = self._corners()[image, place]
        apart = generalized_box_iou_loss(corners, true[image, place, 1:]) * near
        weight = _per_image(near, image, len(targets)).clamp(min=1e-6)
        middle = functional.binary_cross_entropy_with_logits(
            self.centerness.float()[image, place], near, reduction="none"
        )
        return (
            focal / count
            + _per_image(apart, image, len(targets)) / weight
            + _per_image(middle, image, len(targets)) / count
        )

    def detections(self) -> tuple[Tensor, Tensor]:
        """Corners [B, A, 4] in pixels, and scores [B, A, K]: the geometric mean of class and centre."""
        scores = (self.logits.float().sigmoid() * self.centerness.float().sigmoid()[..., None]).sqrt()
        return self._corners(), scores

    def _corners(self) -> Tensor:
        points, sides = self.places.points, self.sides.float()
        return torch.cat([points - sides[..., :2], points + sides[..., 2:]], dim=-1)


def _per_image(values: Tensor, image: Tensor, images: int) -> Tensor:
    """Sums [B] of the values of each image."""
    return values.new_zeros(images).index_add(0, image, values)


def _sides(points: Tensor, corners: Tensor) -> Tensor:
    """Distances [..., 4] of points (x, y) to a box's left, top, right and bottom; negative outside."""
    return torch.cat([points - corners[..., :2], corners[..., 2:] - points], dim=-1)


def _centerness(sides: Tensor) -> Tensor:
    """1 in the middle of a box, 0 on its border: [..., 4] → [...] (equation 3 of the FCOS paper)."""
    across, down = sides[..., 0::2], sides[..., 1::2]
    shares = (across.amin(-1) / across.amax(-1)) * (down.amin(-1) / down.amax(-1))
    return shares.clamp(min=0).sqrt()


@torch.no_grad()
def assign(places: Places, targets: Tensor) -> Tensor:
    """Which object each place shows: int64 [B, A], -1 for none.

    Of the objects whose middle is near enough, inside of whose box the place lies, and whose size fits the
    place's map, the smallest.
    """
    corners = targets[:, None, :, 1:]  # [B, 1, M, 4]
    points = places.points[None, :, None, :]
    sides = _sides(points.expand(1, -1, corners.shape[2], 2), corners)  # [B, A, M, 4]
    centres = (corners[..., :2] + corners[..., 2:]) / 2
    radius = _CENTRE_RADIUS * places.strides[None, :, None]
    near = (points - centres).abs().amax(-1) < radius
    longest = sides.amax(-1)
    fits = (longest >= places.reach[:, :1]) & (longest < places.reach[:, 1:])
    candidate = near & fits & (sides.amin(-1) > 0) & (targets[:, None, :, 0] >= 0)
    size = (corners[..., 2:] - corners[..., :2]).prod(-1).expand_as(candidate)
    smallest, chosen = torch.where(candidate, size, math.inf).min(-1)
    return torch.where(smallest.isfinite(), chosen, -1)


class FcosHead(nn.Module):
    """Maps of `widths` at `strides` → FcosOutputs; one further map halves the last one's size."""

    def __init__(
        self, widths: Sequence[int], strides: Sequence[int], classes: int, width: int = 96, depth: int = 2
    ) -> None:
        super().__init__()
        self.map_strides = [*strides, 2 * strides[-1]]
        self.lateral = nn.ModuleList(nn.Conv2d(inner, width, 1) for inner in widths)
        self.smooth = nn.ModuleList(separable_block(width, width) for _ in widths)
        self.further = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.class_tower = nn.Sequential(*(separable_block(width, width) for _ in range(depth)))
        self.box_tower = nn.Sequential(*(separable_block(width, width) for _ in range(depth)))
        self.classes = nn.Conv2d(width, classes, 3, padding=1)
        self.sides = nn.Conv2d(width, 4, 3, padding=1)
        self.centerness = nn.Conv2d(width, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(self.map_strides)))
        for layer in (self.classes, self.sides, self.centerness):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.classes.bias, -math.log((1 - _PRIOR) / _PRIOR))

    def forward(self, maps: list[Tensor], batch: dict[str, Tensor] | None = None) -> FcosOutputs:  # noqa: ARG002
        parts = [self._answers(level, one) for level, one in enumerate(self._pyramid(maps))]
        logits, sides, centerness = (
            torch.cat(part, dim=1) for part in zip(*(p[:3] for p in parts), strict=True)
        )
        sizes = [p[3] for p in parts]
        return FcosOutputs(logits, sides, centerness.squeeze(-1), self._places(sizes, logits.device))

    def _pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        """From the coarsest map to the finest, each with what the coarser one knows added."""
        levels = top_down([layer(one) for layer, one in zip(self.lateral, maps, strict=True)])
        levels = [layer(one) for layer, one in zip(self.smooth, levels, strict=True)]
        return [*levels, self.further(levels[-1])]

    def _answers(self, level: int, one: Tensor) -> tuple[Tensor, Tensor, Tensor, torch.Size]:
        classes, boxes = self.class_tower(one), self.box_tower(one)
        # As in FCOS's later code: never negative, in units of the stride, with a scale of each map's own.
        sides = functional.softplus(self.sides(boxes) * self.scales[level]) * self.map_strides[level]
        made = (self.classes(classes), sides, self.centerness(boxes))
        return *(part.flatten(2).transpose(1, 2) for part in made), one.shape[2:]

    def _places(self, sizes: list[torch.Size], device: torch.device) -> Places:
        points, strides, reach = [], [], []
        for level, (height, width) in enumerate(sizes):
            stride = self.map_strides[level]
            y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            points.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
            strides.append(torch.full((height * width,), float(stride)))
            least = 0.0 if level == 0 else float(_REACH * self.map_strides[level - 1])
            most = math.inf if level == len(sizes) - 1 else float(_REACH * stride)
            reach.append(torch.tensor([[least, most]]).expand(height * width, 2))
        made = (torch.cat(part).to(device) for part in (points, strides, reach))
        return Places(*made)
