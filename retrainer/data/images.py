"""Every image opened and decoded once: whether it can be used, its size, and what is unusual about it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pyarrow as pa

from retrainer.formats.images import IMAGE_FORMATS

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
# Decoded, three bytes a pixel: 268 MB. Beyond this Pillow itself suspects a bomb.
MAX_PIXELS = 89_478_485
_FILES_PER_JOB = 64
# JPEG decodes at an eighth of its side twice as fast, and still reads every byte.
_DRAFT = 8
# Pixels that have a meaning in grey or RGB; floating-point numbers and CIELAB have none without a profile.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
_ORIENTATION = 0x0112


class Look(NamedTuple):
    """`reason` says why the image cannot be used; `size` is (width, height), (0, 0) where none is known."""

    reason: str | None
    size: tuple[int, int] = (0, 0)
    unusual: tuple[str, ...] = ()


def look_at(images: pa.ChunkedArray) -> list[Look]:
    """One Look per image; the pixels are counted in the header before decoding."""
    return of_each_file(images, _look, Look("no image"))


def of_each_file(files: pa.ChunkedArray, make: Callable[[pa.Buffer], T], absent: T) -> list[T]:
    """What `make` makes of each encoded image or sound, in several threads; `absent` where there is none."""

    def of_some(encoded: pa.BinaryArray) -> list[T]:
        return [make(one.as_buffer()) if one.is_valid else absent for one in encoded]

    encoded = [chunk.flatten()[0] for chunk in files.chunks]
    jobs = [
        chunk.slice(start, _FILES_PER_JOB)
        for chunk in encoded
        for start in range(0, len(chunk), _FILES_PER_JOB)
    ]
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        # A decoder's remark (odd metadata, say) is no reason to leave out an image that it could read.
        warnings.simplefilter("ignore")
        return [made for some in pool.map(of_some, jobs) for made in some]


def _look(encoded: pa.Buffer) -> Look:
    from PIL import Image

    try:
        image = Image.open(BytesIO(encoded), formats=IMAGE_FORMATS)
    except Image.DecompressionBombError:
        return Look("image too large")
    except Exception:  # whatever a decoder raises on strange bytes, they are no image of ours
        return Look("not an image")
    size = image.size
    if size[0] * size[1] > MAX_PIXELS:
        return Look("image too large", size)
    if image.mode not in _MODES and not image.mode.startswith("I"):
        return Look("no grey or RGB image", size)
    try:
        unusual = _before_decoding(image)
        image.draft(image.mode, (max(1, size[0] // _DRAFT), max(1, size[1] // _DRAFT)))
        image.load()
        return Look(None, size, (*unusual, *_after_decoding(image)))
    except Exception:
        return Look("broken image", size)


def _before_decoding(image: Image) -> list[str]:
    """What Pillow only knows while the file is open."""
    found = []
    # Photos of some telephones hold a second picture for the preview; they do not move.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        found.append("animated")
    if image.mode == "CMYK":
        found.append("CMYK")
    if image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in image.tile):
        found.append("16-bit")
    return found


def _after_decoding(image: Image) -> list[str]:
    found = ["alpha"] if image.has_transparency_data else []
    return [*found, "rotated"] if image.getexif().get(_ORIENTATION, 1) != 1 else found
