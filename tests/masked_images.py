"""Small images of squares and discs with their masks, as people keep them in folders."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from retrainer.formats.columns import TYPES

CLASSES = ("background", "disc", "square")
COLOURS = ((110, 110, 110), (230, 60, 40), (40, 60, 230))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def scene(seed: int, size: tuple[int, int] = (64, 48)) -> tuple[bytes, np.ndarray]:
    """A PNG of shapes on noise, and its values, places in CLASSES [H, W]; at the right some are ignored."""
    draws = np.random.default_rng(seed)
    noise = draws.integers(90, 130, (size[1], size[0], 3), dtype=np.uint8)
    image, mask = Image.fromarray(noise), Image.new("L", size)
    for _ in range(draws.integers(1, 4)):
        side = int(draws.integers(10, 22))
        left, top = (int(draws.integers(0, limit - side)) for limit in size)
        value = int(draws.integers(1, 3))
        for picture, fill in ((image, COLOURS[value]), (mask, value)):
            pen = ImageDraw.Draw(picture)
            draw = pen.ellipse if value == 1 else pen.rectangle
            draw((left, top, left + side - 1, top + side - 1), fill=fill)
    values = np.array(mask)
    values[:, -2:] = 255
    return png(image), values


def mask_file(values: np.ndarray, palette: bool = False) -> bytes:
    image = Image.fromarray(values)
    if palette:
        image.putpalette(
            [part for value in range(256) for part in (value, 255 - value, 80)]
        )  # its mode is P now
    return png(image)


def masked_folder(root: Path, count: int, test: int = 0) -> Path:
    """train/ and test/ (where there are test images), each with images/ and masks/; and classes.txt."""
    for number in range(count):
        part = root / ("test" if number >= count - test else "train") if test else root
        image, values = scene(number)
        for folder, data in (("images", image), ("masks", mask_file(values))):
            (part / folder).mkdir(parents=True, exist_ok=True)
            (part / folder / f"a{number:02d}.png").write_bytes(data)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def masks(*rows: np.ndarray, classes: tuple[str | None, ...] = CLASSES) -> pa.Table:
    """A table of masks alone."""
    values = [{"image": {"bytes": mask_file(row), "path": None}, "classes": list(classes)} for row in rows]
    return pa.table({"mask": pa.array(values, TYPES["mask"])})


def rows(*numbers: int) -> pa.Table:
    """A table of `image`, `mask` and `origin`."""
    scenes = [scene(number) for number in numbers]
    images: list[dict[str, Any]] = [{"bytes": image, "path": None} for image, _ in scenes]
    table = masks(*(values for _, values in scenes))
    table = table.add_column(0, "image", pa.array(images, TYPES["image"]))
    return table.append_column("origin", pa.array([f"scene {number}" for number in numbers]))
