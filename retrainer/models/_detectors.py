"""What whole detectors of other libraries give the task object_detection: losses per image, and boxes.

An outputs object has `losses(targets)`: objects [B, M, 5] (class or -1, corners in pixels) → loss [B], and
`detections()`: corners [B, A, 4] in pixels and scores [B, A, K]. Losses are the library's own.
Legend: B images, M objects (padded), A boxes of an image, K classes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou


class AsTheyAre(nn.Module):
    """In place of torchvision's transform: the images are of one size and normalised already."""

    def forward(self, images: list[Tensor], targets: Any = None) -> tuple[ImageList, Any]:
        stacked = torch.stack(list(images))
        return ImageList(stacked, [tuple(stacked.shape[2:])] * len(stacked)), targets

    def postprocess(self, found: Any, sizes: Any, originals: Any) -> Any:  # noqa: ARG002
        return found


@dataclass(frozen=True)
class TorchvisionOutputs:
    """Computed when it is asked for. `first` is the number of the first class: 1 behind a background."""

    module: Any
    pixels: Tensor
    first: int
    classes: int

    def losses(self, targets: Tensor) -> Tensor:
        """Sums of torchvision's losses of each image."""
        features = self.module.backbone(self.pixels)
        features = OrderedDict([("0", features)]) if isinstance(features, Tensor) else features
        one = self._two_stage if hasattr(self.module, "rpn") else self._one_stage(features)
        objects = [self._objects(rows) for rows in targets]
        return torch.stack([one(features, number, [row]) for number, row in enumerate(objects)]).float()

    def _objects(self, rows: Tensor) -> dict[str, Tensor]:
        there = rows[rows[:, 0] >= 0]
        return {"boxes": there[:, 1:].float(), "labels": there[:, 0].long() + self.first}

    def _images(self, number: int) -> ImageList:
        some = self.pixels[number : number + 1]
        return ImageList(some, [tuple(some.shape[2:])])

    def _two_stage(self, features: Any, number: int, objects: list[dict[str, Tensor]]) -> Tensor:
        mine = OrderedDict((name, value[number : number + 1]) for name, value in features.items())
        images = self._images(number)
        with _with_losses(self.module.rpn, self.module.roi_heads, drawn=not self.module.training):
            proposals, first = self.module.rpn(images, mine, objects)
            _, second = self.module.roi_heads(mine, proposals, images.image_sizes, objects)
        return torch.stack([*first.values(), *second.values()]).sum()

    def _one_stage(self, features: Any) -> Any:
        maps = list(features.values())
        made = self.module.head(maps)
        sizes = [int(one.shape[2] * one.shape[3]) for one in maps]

        def loss(_: Any, number: int, objects: list[dict[str, Tensor]]) -> Tensor:
            mine = {name: value[number : number + 1] for name, value in made.items()}
            # Anchors depend on the images' sizes alone.
            anchors = self.module.anchor_generator(self._images(number), [one[:1] for one in maps])
            further: tuple[Any, ...] = ()
            if isinstance(self.module, SSD):
                further = ([self._matched(anchors[0], objects[0]["boxes"])],)
            elif isinstance(self.module, FCOS):
                further = (sizes,)
            found = self.module.compute_loss(objects, mine, anchors, *further)
            return torch.stack(list(found.values())).sum()

        return loss

    def _matched(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Which object each of SSD's default boxes is for."""
        if not len(boxes):
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        return self.module.proposal_matcher(box_iou(boxes, anchors))

    def detections(self) -> tuple[Tensor, Tensor]:
        """What torchvision keeps of its boxes, padded with scores of 0."""
        found = self.module(list(self.pixels))
        most = max([len(one["boxes"]) for one in found] + [1])
        corners = self.pixels.new_zeros(len(found), most, 4)
        scores = self.pixels.new_zeros(len(found), most, self.classes)
        for number, one in enumerate(found):
            count = len(one["boxes"])
            corners[number, :count] = one["boxes"]
            places = torch.arange(count, device=scores.device)
            scores[number, places, one["labels"] - self.first] = one["scores"]
        return corners, scores


@contextmanager
def _with_losses(*parts: nn.Module, drawn: bool) -> Iterator[None]:
    """Parts that compute losses in training mode alone do so inside; their own parts stay as they are.

    Which proposals count is drawn at random: with `drawn` the global generator is as before outside, so that
    a validation moves nothing.
    """
    modes = [part.training for part in parts]
    with torch.random.fork_rng(enabled=drawn):
        for part in parts:
            part.training = True
        try:
            yield
        finally:
            for part, mode in zip(parts, modes, strict=True):
                part.training = mode


@dataclass(frozen=True)
class TransformersOutputs:
    """Of DETR and its kin, whose boxes are centres and sizes as shares of the image."""

    module: Any
    pixels: Tensor
    classes: int

    def losses(self, targets: Tensor) -> Tensor:
        """Each image in a pass of its own: such losses are divided by the number of boxes of a pass."""
        return torch.stack([self._loss(number, rows) for number, rows in enumerate(targets)]).float()

    def _loss(self, number: int, rows: Tensor) -> Tensor:
        there = rows[rows[:, 0] >= 0]
        height, width = self.pixels.shape[2:]
        corners = there[:, 1:] / there.new_tensor([width, height, width, height])
        middle, size = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
        labels = [{"class_labels": there[:, 0].long(), "boxes": torch.cat([middle, size], dim=1)}]
        with _still_norms(self.module):
            return self.module(pixel_values=self.pixels[number : number + 1], labels=labels).loss

    def detections(self) -> tuple[Tensor, Tensor]:
        made = self.module(pixel_values=self.pixels)
        logits = made.logits.float()
        # DETR and YOLOS have one class more, which says that there is nothing.
        nothing = logits.shape[2] > self.classes
        scores = logits.softmax(-1)[..., : self.classes] if nothing else logits.sigmoid()
        middle, size = made.pred_boxes.float().split(2, dim=-1)
        height, width = self.pixels.shape[2:]
        corners = torch.cat([middle - size / 2, middle + size / 2], dim=-1)
        return corners * corners.new_tensor([width, height, width, height]), scores


@contextmanager
def _still_norms(module: nn.Module) -> Iterator[None]:
    """Batch norms use what they have learned inside: one image is no batch to take statistics of."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    modes = [part.training for part in norms]
    for part in norms:
        part.eval()
    try:
        yield
    finally:
        for part, mode in zip(norms, modes, strict=True):
            part.train(mode)
