"""Encoded images → uint8 arrays of one shape, whatever the camera or the program wrote."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

from retrainer.errors import UserError
from retrainer.formats.dataset import IMAGE_FORMATS
from retrainer.tasks._classes import row_name

# Threads only pay where decoding and scaling do (they free the interpreter's lock); small images are quicker
# without.
_BYTES_WORTH_A_THREAD = 16_384
_PIXELS_WORTH_A_THREAD = 128 * 128
_TRANSPARENT = (255, 255, 255)


@dataclass(frozen=True)
class EncodedImages:
    """Images as their files, decoded when they are wanted: to the same pixels, each time.

    nvJPEG and other decoders than Pillow's round otherwise, so a GPU decodes none: pixels, and with them a
    model's bytes, would depend on the machine.
    """

    table: pa.Table  # column `image`, and `origin` by which an error names the row
    size: tuple[int, int]  # height, width
    channels: int

    def __len__(self) -> int:
        return len(self.table)

    @property
    def nbytes(self) -> int:
        """Of all images, decoded."""
        return len(self) * self.channels * self.size[0] * self.size[1]

    def decode(self, rows: Sequence[int]) -> np.ndarray:
        """uint8 [B, C, H, W]. Raises UserError with the row's name for one that does not decode."""
        column = self.table["image"]
        images = [column[row].as_py() for row in rows]
        encoded = [None if image is None else image["bytes"] for image in images]
        return decode_images(encoded, self.size, self.channels, [row_name(self.table, row) for row in rows])


def decode_images(
    encoded: Sequence[bytes | None], size: tuple[int, int], channels: int, names: Sequence[str]
) -> np.ndarray:
    """Encoded images → uint8 [N, C, H, W]. Raises UserError with the row's name for one that does not decode.

    An image of another size is scaled until it covers `size` (height, width), and its centre is kept.
    """
    pixels: np.ndarray = np.empty((len(encoded), channels, *size), dtype=np.uint8)

    def fill(row: int) -> None:
        pixels[row] = decode_image(encoded[row], size, channels, names[row])

    heavy = sum(len(data or b"") for data in encoded) > _BYTES_WORTH_A_THREAD * max(1, len(encoded))
    if heavy or size[0] * size[1] > _PIXELS_WORTH_A_THREAD:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(fill, range(len(encoded))))
    else:
        for row in range(len(encoded)):
            fill(row)
    return pixels


def decode_image(data: bytes | None, size: tuple[int, int], channels: int, name: str) -> np.ndarray:
    """One encoded image → uint8 [C, H, W]: upright by its EXIF note, grey or RGB, transparency on white."""
    plain, _ = plain_image(data, 2 * max(size), channels, name)
    height, width = size
    if plain.size != (width, height):
        plain = ImageOps.fit(plain, (width, height), Image.Resampling.BICUBIC)
    array = np.asarray(plain)
    return array.transpose(2, 0, 1) if channels == 3 else array[None]


def plain_image(
    data: bytes | None, enough: int, channels: int, name: str
) -> tuple[Image.Image, tuple[int, int]]:
    """One encoded image in grey or RGB, upright, at least `enough` pixels a side where it has them, and its
    whole size (width, height). Raises UserError with the row's name when it does not decode.
    """
    try:
        with Image.open(io.BytesIO(data or b""), formats=IMAGE_FORMATS) as image:
            width, height = image.size
            # A JPEG far larger than needed is decoded at a half, a quarter or an eighth: many times faster.
            image.draft(None, (enough, enough))
            upright = ImageOps.exif_transpose(image)
            turned = (upright.width > upright.height) != (image.width > image.height)
            plain = _eight_bit(upright).convert("RGB" if channels == 3 else "L")
    except Exception as error:  # Pillow's plug-ins raise many kinds of errors on broken files
        reason = "it is empty" if not data else " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name}: the image cannot be decoded: {reason}") from None
    return plain, (height, width) if turned else (width, height)


def _eight_bit(image: Image.Image) -> Image.Image:
    """8 bits a channel, opaque; 16-bit grey is scaled, not cut off at 255."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64).clip(0, 65_535)
        return Image.fromarray((values // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        opaque = Image.new("RGB", image.size, _TRANSPARENT)
        opaque.paste(coloured, mask=coloured.getchannel("A"))
        return opaque
    return image
