"""Images of any shape brought to one size with their proportions kept, and the boxes of their objects.

Legend: N rows, B rows of a batch, C channels, H height, W width, M objects (the most of a row; padded).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from retrainer.errors import DataError, nearest
from retrainer.formats.names import CORNERS
from retrainer.tasks._boxes import NO_OBJECT, Augmentation, augment
from retrainer.tasks._classes import row_name
from retrainer.tasks._decode_image import plain_image
from retrainer.tasks._device import send
from retrainer.tasks._storage import Parts, fits

_ROWS_AT_ONCE = 64


def fitted(size: tuple[int, int], whole: tuple[int, int]) -> tuple[float, tuple[int, int]]:
    """By how much an image of `whole` (height, width) is scaled to fit into `size`, and its width and height
    then."""
    scale = min(size[1] / whole[1], size[0] / whole[0])
    return scale, (max(1, round(whole[1] * scale)), max(1, round(whole[0] * scale)))


@dataclass(frozen=True)
class Letterboxes:
    """Images as their files. `fill` is the colour (0 to 255) of what is padded to the right and below."""

    table: pa.Table  # column `image`, and `origin` by which an error names the row
    size: tuple[int, int]
    channels: int
    fill: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def nbytes(self) -> int:
        """Of all images, decoded."""
        return len(self) * self.channels * self.size[0] * self.size[1]

    def decode(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [B, C, H, W], and float32 [B, 3]: each image's scale, whole width and height.

        Raises UserError with the row's name for one that does not decode.
        """
        pixels: np.ndarray = np.empty((len(rows), self.channels, *self.size), np.uint8)
        frames: np.ndarray = np.empty((len(rows), 3), np.float32)
        column = self.table["image"]

        def one(place: int) -> None:
            row = int(rows[place])
            image = column[row].as_py()
            data = None if image is None else image["bytes"]
            pixels[place], frames[place] = self._one(data, row_name(self.table, row))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(one, range(len(rows))))
        return pixels, frames

    def _one(self, data: bytes | None, name: str) -> tuple[np.ndarray, tuple[float, int, int]]:
        height, width = self.size
        image, (full_width, full_height) = plain_image(data, 2 * max(self.size), self.channels, name)
        scale, sides = fitted(self.size, (full_height, full_width))
        canvas = Image.new(image.mode, (width, height), self.fill if self.channels == 3 else self.fill[0])
        canvas.paste(image.resize(sides, Image.Resampling.BILINEAR))
        array = np.asarray(canvas)
        return (array.transpose(2, 0, 1) if self.channels == 3 else array[None]), (
            scale,
            full_width,
            full_height,
        )


@dataclass(frozen=True)
class Pictures:
    """`images` uint8 [N, C, H, W], or the files where there is no room for that; `frames` [N, 3] as in
    Letterboxes (None: with the files). `mean`, `std` are of values 0 to 1.
    """

    images: Tensor | Letterboxes
    frames: Tensor | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)

    @property
    def make_ahead(self) -> bool:
        """Whether a batch keeps a step waiting that could be made meanwhile."""
        return isinstance(self.images, Letterboxes) or self.device.type == "cuda"

    def pick(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Pixels 0 to 255 [B, C, H, W], float32, and frames [B, 3], on the device."""
        if isinstance(self.images, Letterboxes):
            pixels, frames = self.images.decode(rows.tolist())
            return send(torch.from_numpy(pixels), self.device).float(), send(
                torch.from_numpy(frames), self.device
            )
        assert self.frames is not None
        picked = torch.from_numpy(rows)
        return send(self.images[picked], self.device).float(), send(self.frames[picked], self.device)

    def normalised(self, pixels: Tensor) -> Tensor:
        mean, std = (pixels.new_tensor(v).view(1, -1, 1, 1) * 255 for v in (self.mean, self.std))
        return (pixels - mean) / std


@dataclass(frozen=True)
class DetectionRows:
    """`objects` [N, M, 5] in whole pixels, where the rows have truth."""

    pictures: Pictures
    objects: Tensor | None

    def __len__(self) -> int:
        return len(self.pictures.images)

    @property
    def nbytes(self) -> int:
        return self.pictures.images.nbytes

    @property
    def make_ahead(self) -> bool:
        return self.pictures.make_ahead

    def to(self, device: torch.device) -> DetectionRows:
        return replace(self, pictures=replace(self.pictures, device=device))

    def batch(
        self, rows: np.ndarray, augmentation: Augmentation, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """`pixels` normalised [B, C, H, W], `frame` [B, 3], and `targets` [B, M, 5] in the pixels' places."""
        pixels, frames = self.pictures.pick(rows)
        made = {"frame": frames}
        if self.objects is not None:
            objects = send(self.objects[torch.from_numpy(rows)], self.pictures.device).clone()
            objects[..., 1:] *= frames[:, None, :1]
            if generator is not None:
                pixels, objects = augment(pixels, objects, augmentation, generator)
            made["targets"] = objects
        return made | {"pixels": self.pictures.normalised(pixels)}


def encode(table: pa.Table, preprocessing: dict[str, Any], labels: tuple[str, ...]) -> DetectionRows:
    """Columns `image`, and `boxes` where there are any. Raises UserError where an image does not decode."""
    known = "boxes" in table.column_names
    # Rows to predict may have classes that this model never saw; in training, `targets` refuses them.
    objects = torch.from_numpy(objects_of(table, labels, strict=False)) if known else None
    return DetectionRows(pictures(table, preprocessing), objects)


def pictures(table: pa.Table, preprocessing: dict[str, Any]) -> Pictures:
    """The column `image`, decoded once. Raises UserError where one does not decode."""
    height, width = (int(side) for side in preprocessing["size"])
    mean, std = (tuple(float(v) for v in preprocessing[key]) for key in ("mean", "std"))
    columns = [name for name in ("image", "origin") if name in table.column_names]
    fill = tuple(round(255 * value) for value in mean)
    files = Letterboxes(table.select(columns), (height, width), int(preprocessing["channels"]), fill)
    if not fits(files.nbytes):
        return Pictures(files, None, mean, std)
    images, frames = _decoded(files)
    return Pictures(torch.from_numpy(images), torch.from_numpy(frames), mean, std)


def _decoded(files: Letterboxes) -> tuple[np.ndarray, np.ndarray]:
    parts = Parts(files.nbytes)
    frames: list[np.ndarray] = [np.zeros((0, 3), np.float32)]
    for start in range(0, len(files), _ROWS_AT_ONCE):
        pixels, some = files.decode(range(start, min(start + _ROWS_AT_ONCE, len(files))))
        parts.append(pixels)
        frames.append(some)
    shape = (len(files), files.channels, *files.size)
    return parts.array(np.uint8, shape), np.concatenate(frames)


def objects_of(table: pa.Table, labels: tuple[str, ...], strict: bool = True) -> np.ndarray:
    """Column `boxes` → float32 [N, M, 5]: class (-1: none) and corners in pixels of the whole image.

    With `strict`, raises UserError for a class that is not in `labels`; else its boxes have none.
    """
    rows = table["boxes"].to_pylist()
    codes = {name: float(code) for code, name in enumerate(labels)}
    most = max([len(boxes or []) for boxes in rows], default=0)
    objects: np.ndarray = np.full((len(rows), max(1, most), 5), NO_OBJECT, np.float32)
    for number, boxes in enumerate(rows):
        for place, box in enumerate(boxes or []):
            if strict and box["label"] not in codes:
                where = row_name(table, number)
                raise DataError(f"{where}: {box['label']!r} is no class here{nearest(box['label'], labels)}")
            objects[number, place] = [
                codes.get(box["label"], NO_OBJECT),
                *(box[corner] for corner in CORNERS),
            ]
    return objects
