"""Images with the classes of their pixels, brought to one size with their proportions kept.

Legend: N rows, B rows of a batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from retrainer.errors import DataError, nearest
from retrainer.formats.masks import IGNORED, numbered, read_mask
from retrainer.tasks._boxes import Augmentation, augment_masks
from retrainer.tasks._classes import row_name
from retrainer.tasks._device import send
from retrainer.tasks._letterbox import Letterboxes, Pictures, fitted, pictures

NO_CLASS = -1


@dataclass(frozen=True)
class MaskFiles:
    """Masks as their files. A pixel's class is its place in `labels`; IGNORED: none."""

    table: pa.Table  # column `mask`, and `origin` by which an error names the row
    size: tuple[int, int]
    labels: tuple[str, ...]

    def decode(self, rows: Sequence[int]) -> Tensor:
        """uint8 [B, H, W]. Raises UserError with the row's name for a mask that does not decode, or has a
        class that is none here."""
        made: np.ndarray = np.full((len(rows), *self.size), IGNORED, np.uint8)
        for place, row in enumerate(rows):
            values = self._classes(int(row))
            _, sides = fitted(self.size, (values.shape[0], values.shape[1]))
            small = np.asarray(Image.fromarray(values).resize(sides, Image.Resampling.NEAREST))
            made[place, : small.shape[0], : small.shape[1]] = small
        return torch.from_numpy(made)

    def _classes(self, row: int) -> np.ndarray:
        """uint8 [H, W] of the whole mask."""
        name, mask = row_name(self.table, row), self.table["mask"][row].as_py()
        if mask is None:
            raise DataError(f"{name}: there is no mask; give one, or leave the row out")
        strange = [one for one in mask["classes"] if one is not None and one not in self.labels]
        if strange:
            raise DataError(f"{name}: {strange[0]!r} is no class here{nearest(strange[0], self.labels)}")
        places = {label: place for place, label in enumerate(self.labels)}
        classes = numbered(read_mask(mask["image"]["bytes"], name), mask["classes"], places, NO_CLASS)
        return np.where(classes < 0, IGNORED, classes).astype(np.uint8)


@dataclass(frozen=True)
class MaskRows:
    """`masks` uint8 [N, H, W], or their files where the images are files too; None where rows have none."""

    pictures: Pictures
    masks: Tensor | MaskFiles | None

    def __len__(self) -> int:
        return len(self.pictures.images)

    @property
    def nbytes(self) -> int:
        return self.pictures.images.nbytes + (self.masks.nbytes if isinstance(self.masks, Tensor) else 0)

    @property
    def make_ahead(self) -> bool:
        return self.pictures.make_ahead

    def to(self, device: torch.device) -> MaskRows:
        return replace(self, pictures=replace(self.pictures, device=device))

    def batch(
        self, rows: np.ndarray, augmentation: Augmentation, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """`pixels` normalised [B, C, H, W], `frame` [B, 3], and `targets` int64 [B, H, W]; -1: none."""
        pixels, frames = self.pictures.pick(rows)
        made = {"frame": frames}
        if self.masks is not None:
            masks = send(self._masks(rows), self.pictures.device).long()
            masks = torch.where(masks == IGNORED, NO_CLASS, masks)
            if generator is not None:
                pixels, masks = augment_masks(pixels, masks, augmentation, generator)
            made["targets"] = masks
        return made | {"pixels": self.pictures.normalised(pixels)}

    def _masks(self, rows: np.ndarray) -> Tensor:
        assert self.masks is not None
        if isinstance(self.masks, MaskFiles):
            return self.masks.decode(rows.tolist())
        return self.masks[torch.from_numpy(rows)]


def encode(table: pa.Table, preprocessing: dict[str, Any], labels: tuple[str, ...]) -> MaskRows:
    """Columns `image`, and `mask` where there is one. Raises UserError where a row does not decode."""
    images = pictures(table, preprocessing)
    if "mask" not in table.column_names:
        return MaskRows(images, None)
    columns = [name for name in ("mask", "origin") if name in table.column_names]
    height, width = (int(side) for side in preprocessing["size"])
    files = MaskFiles(table.select(columns), (height, width), labels)
    in_files = isinstance(images.images, Letterboxes)
    return MaskRows(images, files if in_files else files.decode(range(len(table))))
