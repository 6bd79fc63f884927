"""Masks: a picture of one value a pixel, from 0 to 255, and the name of the class that each value stands for.

A mask's `classes` has the names by their values: place 3 names the pixels of value 3; null, or no such place:
these pixels are ignored. Legend: H height, W width.
"""

from __future__ import annotations

import colorsys
import io
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from retrainer.errors import DataError
from retrainer.formats.images import IMAGE_FORMATS
from retrainer.formats.png import png_file

if TYPE_CHECKING:
    import numpy as np

# The usual value of pixels that are neither learned from nor judged (Pascal VOC's border, Cityscapes' void).
IGNORED = 255
MOST_CLASSES = 255
_MAX_PIXELS = 89_478_485  # as of images: `retrainer.data.images`
_TURN = 0.618034  # of the colour circle, from one class to the next: the golden ratio's
# Rows of a mask are long stretches of one value: the fastest level packs them nearly as well as the best.
_LEVEL = 1


def read_mask(data: bytes | None, name: str) -> np.ndarray:
    """An encoded mask, of a palette or grey → its values, uint8 [H, W].

    Raises DataError beginning with `name` for what is no such picture.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data or b""), formats=IMAGE_FORMATS) as opened:
            if opened.size[0] * opened.size[1] > _MAX_PIXELS:
                raise ValueError("it is too large")
            if opened.mode not in ("1", "L", "P") and not opened.mode.startswith("I"):
                raise ValueError(
                    f"its mode is {opened.mode}; save it grey or with a palette, a class's number in each"
                    " pixel"
                )
            values = np.asarray(opened)
    except Exception as error:  # Pillow's readers fail in many ways on broken files
        reason = " ".join(str(error).split())[:160] if data else "it is empty"
        reason = (
            f"its bytes are none of {', '.join(IMAGE_FORMATS)}" if "cannot identify" in reason else reason
        )
        raise DataError(f"{name}: the mask cannot be read: {reason}") from None
    if (
        values.dtype not in (np.uint8, np.bool_)
        and values.size
        and not 0 <= values.min() <= values.max() < 256
    ):
        raise DataError(
            f"{name}: the mask has values from {values.min()} to {values.max()}; needed are 0 to 255"
        )
    return values.astype(np.uint8)


def upright_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of an image as its EXIF note turns it; None for one that cannot be opened."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as opened:
            width, height = opened.size
            turned = opened.getexif().get(0x0112, 1) >= 5
    except Exception:  # what is wrong with it, another check says
        return None
    return (width, height) if turned else (height, width)


def mask_png(values: np.ndarray) -> bytes:
    """uint8 [H, W] → PNG bytes with a palette: each class in its own colour, ignored pixels black."""
    import numpy as np

    height, width = values.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with filter type 0
    rows[:, 1:] = values
    colours = b"".join(bytes(colour(value)) for value in range(256))
    packed = zlib.compress(rows.tobytes(), _LEVEL)
    return png_file((height, width), 3, {b"PLTE": colours, b"IDAT": packed})


def colour(value: int) -> tuple[int, int, int]:
    """Red, green and blue in which pages draw a class; black for pixels that are ignored."""
    if value == IGNORED:
        return 0, 0, 0
    hue = value * _TURN % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 + 0.4 * (value % 2), 0.95 - 0.2 * (value % 3 == 2))
    return round(255 * red), round(255 * green), round(255 * blue)


def mask_value(values: np.ndarray, classes: Sequence[str | None]) -> dict[str, Any]:
    """What stands in a column of masks."""
    return {"image": {"bytes": mask_png(values), "path": None}, "classes": list(classes)}


def numbered(
    values: np.ndarray, classes: Sequence[str | None], places: dict[str, int], other: int
) -> np.ndarray:
    """Values → the places of their classes, int16: -1 where ignored, `other` for a name that has no place."""
    import numpy as np

    table: np.ndarray = np.full(256, -1, np.int16)
    for value, name in enumerate(classes[:256]):
        if name is not None:
            table[value] = places.get(name, other)
    return table[values]


def share_differing(first: bytes, second: bytes) -> float:
    """The share of the pixels in which two encoded masks differ; 1 where their sizes do."""
    one, other = (read_mask(data, "a mask") for data in (first, second))
    return (
        float((one != other).mean())
        if one.shape == other.shape and one.size
        else float(one.shape != other.shape)
    )
