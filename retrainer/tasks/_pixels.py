"""Images decoded once, and augmentation drawn per image but computed for the whole batch.

Legend: N images, B images of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from retrainer.tasks._decode import EncodedImages
from retrainer.tasks._device import send
from retrainer.tasks._randaugment import Changes, draw, recolour, reshape
from retrainer.tasks._storage import Parts, fits, memory_limit

# Images stay on the accelerator when they take no more than this share of its free memory.
_RESIDENT_SHARE = 0.25
# Decoded before they are put away; more where memory is plenty: processes that decode take a second to begin.
_BYTES_AT_ONCE = 64 << 20


@dataclass(frozen=True)
class Augmentation:
    """The largest change of each kind; every image draws its own, evenly between none and that."""

    shift: int = 0  # pixels
    rotate_degrees: float = 0.0
    scale: float = 0.0  # 0.1: between 0.9 and 1.1 times the size
    flip: bool = False
    randaugment: float = 0.0  # magnitude, 0 to 10
    cutout: int = 0  # side of a square, pixels

    @property
    def bends(self) -> bool:
        """Whether pixels must be interpolated."""
        return self.rotate_degrees > 0 or self.scale > 0 or self.randaugment > 0


@dataclass(frozen=True)
class Pixels:
    """`images` is uint8 [N, C, H, W], in host memory, mapped or on the device; or, where there is no room
    for that, the images' files. `mean`, `std` are of values 0 to 1.
    """

    images: Tensor | EncodedImages
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        return self.images.nbytes

    @property
    def make_ahead(self) -> bool:
        """Whether a batch keeps a step waiting that could be made meanwhile."""
        if isinstance(self.images, EncodedImages):
            return True
        return self.device.type == "cuda" and self.images.device.type == "cpu"

    def to(self, device: torch.device) -> Pixels:
        if (
            isinstance(self.images, Tensor)
            and device.type == "cuda"
            and self.nbytes < _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
        ):
            return replace(self, images=self.images.to(device), device=device)
        return replace(self, device=device)

    def batch(
        self, rows: np.ndarray, augmentation: Augmentation, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """`pixels`: normalised float32 [B, C, H, W]; augmented when there is a generator to draw from."""
        pixels = self._pick(rows)
        if generator is not None:
            pixels = augment(pixels, augmentation, generator)
        if pixels.is_cuda:  # as convolutions want it, while a value is a byte
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        mean, std = (_wide(v, pixels.device) * 255 for v in (self.mean, self.std))
        pixels = pixels.sub(mean).div_(std)
        if generator is not None and augmentation.cutout:
            cut_out(pixels, augmentation.cutout, generator)
        return {"pixels": pixels}

    def _pick(self, rows: np.ndarray) -> Tensor:
        """uint8 [B, C, H, W], on the device."""
        if isinstance(self.images, EncodedImages):
            return send(torch.from_numpy(self.images.decode(rows.tolist())), self.device)
        # Copies whole images, in a sixth of the time that indexing takes, byte by byte (measured).
        picked = self.images.index_select(0, send(torch.from_numpy(rows), self.images.device))
        return send(picked, self.device)


def _wide(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Float32 [1, C, 1, 1]. Nobody waits for the copy: a GPU would be idle until its next work is there."""
    return send(torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1), device)


def encode_images(table: pa.Table, preprocessing: dict[str, Any]) -> Pixels:
    """Column `image` (encoded bytes) → uint8 [N, C, H, W], or the same files where no place has room for it.

    Raises UserError where one does not decode.
    """
    height, width = (int(side) for side in preprocessing["size"])
    columns = [name for name in ("image", "origin") if name in table.column_names]
    encoded = EncodedImages(table.select(columns), (height, width), int(preprocessing["channels"]))
    mean, std = (tuple(float(v) for v in preprocessing[key]) for key in ("mean", "std"))
    images = torch.from_numpy(_decoded(encoded)) if fits(encoded.nbytes) else encoded
    return Pixels(images, mean, std)


def _decoded(encoded: EncodedImages) -> np.ndarray:
    """All of them, uint8 [N, C, H, W]; no more than a part of them is held twice."""
    count = len(encoded)
    parts = Parts(encoded.nbytes)
    at_once = max(1, max(_BYTES_AT_ONCE, memory_limit() // 4) * count // max(1, encoded.nbytes))
    for start in range(0, count, at_once):
        parts.append(encoded.decode(range(start, min(start + at_once, count))))
    return parts.array(np.uint8, (count, encoded.channels, *encoded.size))


def augment(pixels: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """[B, C, H, W] of values 0 to 255 → the same shape; what moves in from outside repeats the border.

    The answer is uint8 where pixels were only moved, which takes a quarter of the memory's time.
    """
    drawn = torch.rand(len(pixels), 5, generator=generator) * 2 - 1
    draws = send(drawn, pixels.device)
    changes = None
    if augmentation.randaugment:
        changes = draw(len(pixels), augmentation.randaugment, generator)
        pixels = recolour(pixels.float(), changes)
    if augmentation.bends:
        return _bend(pixels.float(), augmentation, draws, changes)
    if augmentation.shift or augmentation.flip:
        return _move(pixels, augmentation, draws)
    return pixels


def _shift(augmentation: Augmentation, draws: Tensor) -> Tensor:
    """Whole pixels [B, 2] (down, right), each from -shift to shift with equal chance."""
    choices = 2 * augmentation.shift + 1
    return ((draws[:, :2] + 1) / 2 * choices).floor().clamp(max=choices - 1).long() - augmentation.shift


def _flips(augmentation: Augmentation, draws: Tensor) -> Tensor:
    """Bool [B]."""
    return (draws[:, 2] < 0) & augmentation.flip


def _move(pixels: Tensor, augmentation: Augmentation, draws: Tensor) -> Tensor:
    """Shift and flip by picking rows and columns: exact, nothing is interpolated."""
    count, channels, height, width = pixels.shape
    shift = _shift(augmentation, draws)
    down = torch.arange(height, device=pixels.device) - shift[:, :1]
    right = torch.arange(width, device=pixels.device) - shift[:, 1:]
    right = torch.where(_flips(augmentation, draws)[:, None], width - 1 - right, right)
    down, right = down.clamp(0, height - 1), right.clamp(0, width - 1)
    pixels = pixels.gather(2, down[:, None, :, None].expand(count, channels, height, width))
    return pixels.gather(3, right[:, None, None, :].expand(count, channels, height, width))


def cut_out(pixels: Tensor, side: int, generator: torch.Generator) -> None:
    """Sets a square of normalised [B, C, H, W] to 0, the mean, at a place of each image's own.

    As DeVries and Taylor 2017 (arXiv:1708.04552), but that no square lies across the border.
    """
    places = send(torch.rand(2, len(pixels), 1, generator=generator), pixels.device)
    inside = []
    for place, length in zip(places, pixels.shape[2:], strict=True):
        first = (place * (max(0, length - side) + 1)).floor()
        distance = torch.arange(length, device=pixels.device) - first
        inside.append((distance >= 0) & (distance < side))
    pixels.masked_fill_((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)


def _bend(pixels: Tensor, augmentation: Augmentation, draws: Tensor, changes: Changes | None) -> Tensor:
    """All changes as one affine map per image, sampled bilinearly.

    It says where a pixel (x, y) from the centre comes from: (xx·x + xy·y - right, yx·x + yy·y - down).
    """
    height, width = pixels.shape[2:]
    angle = draws[:, 3] * math.radians(augmentation.rotate_degrees)
    zoom = 1 / (1 + draws[:, 4] * augmentation.scale)
    cosine, sine = (angle.cos() * zoom)[:, None, None], (angle.sin() * zoom)[:, None, None]
    mirror = torch.where(_flips(augmentation, draws), -1.0, 1.0)[:, None, None]
    down, right = _shift(augmentation, draws)[:, :, None, None].unbind(dim=1)
    affine = (cosine * mirror, -sine, sine * mirror, cosine, right, down)
    for slot in range(0 if changes is None else changes.kinds.shape[1]):
        assert changes is not None
        affine = _after(affine, [part.to(pixels.device) for part in reshape(changes, slot, height, width)])
    xx, xy, yx, yy, right, down = affine
    # Pixels from the centre: a turn keeps its angle whatever the image's sides. Where each pixel comes from
    # is a sum of one part per row and one per column, several times faster than a product of matrices.
    y = (torch.arange(height, device=pixels.device) - (height - 1) / 2)[:, None]
    x = torch.arange(width, device=pixels.device) - (width - 1) / 2
    grid = pixels.new_empty(len(pixels), height, width, 2)
    grid[..., 0] = (xx * x - right) * (2 / width) + xy * y * (2 / width)
    grid[..., 1] = (yy * y - down) * (2 / height) + yx * x * (2 / height)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _after(outer: tuple[Tensor, ...], inner: list[Tensor]) -> tuple[Tensor, ...]:
    """The map that asks `inner` first where a pixel comes from, and of that `outer`."""
    a, b, c, d, right, down = outer
    e, f, g, h, inner_right, inner_down = inner
    shifted = right + a * inner_right + b * inner_down, down + c * inner_right + d * inner_down
    return a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h, *shifted
