"""One encoded image → pixels. Imports little: it also runs in processes that do nothing else."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from retrainer.errors import DataError
from retrainer.formats.images import IMAGE_FORMATS

_TRANSPARENT = (255, 255, 255)


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
        raise DataError(f"{name}: the image cannot be decoded: {_reason(error, data)}") from None
    return plain, (height, width) if turned else (width, height)


def _reason(error: Exception, data: bytes | None) -> str:
    if not data:
        return "it is empty"
    if isinstance(error, UnidentifiedImageError):  # its text has an address in memory
        return f"its bytes are none of {', '.join(IMAGE_FORMATS)}"
    return " ".join(str(error).split()) or type(error).__name__


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
