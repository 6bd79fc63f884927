"""What is compared of images: small pixels of the same side, whatever the image's shape, and how far two
agree.

Legend: P pairs, S the side of the pixels, B blocks.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from retrainer.data.images import MAX_PIXELS
from retrainer.formats.images import IMAGE_FORMATS

if TYPE_CHECKING:
    from PIL import Image

# The hashes and the first comparison see an image so small; the last comparison twice as large, where it is.
SIDE = 32
LARGER = 2 * SIDE
# A pixel that differs by so much from the image's median colour is no background. Only pixels that are none
# in one of the two images are compared: else all that shows something small on black would be alike.
_BACKGROUND = 32
# Images are compared block by block too. A block whose pixels vary by less, in both, shows nothing: by so
# many of 255, and by so much of what the block varies that varies most (JPEG blurs about an edge in
# proportion to it).
_BLOCK_SIDE = 8
_LEAST_DEVIATION = 8
_LEAST_SHARE = 0.1
_TRANSPARENT = (255, 255, 255)


def small_pixels(encoded: pa.Buffer | bytes) -> np.ndarray | None:
    """uint8 [S, S, 3] of an encoded image, upright, whatever its shape; None where it cannot be read."""
    return _pixels(encoded, SIDE, 1)


def larger_pixels(encoded: pa.Buffer | bytes) -> np.ndarray | None:
    """The same of side LARGER; None where the image itself is smaller."""
    return _pixels(encoded, LARGER, LARGER)


def _pixels(encoded: pa.Buffer | bytes, side: int, least: int) -> np.ndarray | None:
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(encoded), formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS or min(image.size) < least:
                return None
            image.draft(None, (2 * side, 2 * side))
            small = _opaque(image).resize((side, side), Image.Resampling.BILINEAR)
            return np.asarray(ImageOps.exif_transpose(small))
    except Exception:  # whatever a decoder raises on strange bytes, there is nothing to compare
        return None


def _opaque(image: Image.Image) -> Image.Image:
    """RGB, transparency on white; 16-bit grey is scaled, not cut off at 255."""
    from PIL import Image

    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65_535) // 257).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    coloured = image.convert("RGBA")
    white = Image.new("RGB", image.size, _TRANSPARENT)
    white.paste(coloured, mask=coloured.getchannel("A"))
    return white


def background(pixels: np.ndarray) -> np.ndarray:
    """int16 [P, 1, 1, 3]: twice the median colour of uint8 [P, S, S, 3]; a whole number."""
    return (2 * np.median(pixels, axis=(1, 2), keepdims=True)).astype(np.int16)


def shown(pixels: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """bool [P, S, S]: where uint8 [P, S, S, 3] differs from the background of its image."""
    return (np.abs(2 * pixels.astype(np.int16) - behind) >= 2 * _BACKGROUND).any(axis=3)


def correlation(one: np.ndarray, other: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """uint8 [P, S, S, 3] twice → float64 [P], -1 to 1 (Pearson), over the pixels of bool [P, S, S]."""
    count = 3 * np.count_nonzero(seen, axis=(1, 2))
    # Whole numbers below 2 ** 53: their sums are exact, in any order.
    a, b = ((pixels * seen[..., None]).reshape(len(one), -1).astype(np.float64) for pixels in (one, other))
    sum_a, sum_b = a.sum(axis=1), b.sum(axis=1)
    covariance = count * np.einsum("pi,pi->p", a, b) - sum_a * sum_b
    variance_a = count * np.einsum("pi,pi->p", a, a) - sum_a**2
    variance_b = count * np.einsum("pi,pi->p", b, b) - sum_b**2
    return covariance / np.sqrt(np.maximum(variance_a, 1)) / np.sqrt(np.maximum(variance_b, 1))


def agreement(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """uint8 [P, S, S, 3] twice → float64 [P]: a tenth of the blocks correlate by less. 1 where no block shows
    anything.

    Images that share a frame, axes or a form correlate as a whole, however much what they show differs.
    """
    if not len(one):
        return np.empty(0)
    a, b = _blocks(one), _blocks(other)
    count = a.shape[2]
    sum_a, sum_b = (some.sum(axis=2).astype(np.float64) for some in (a, b))

    def covariance(x: np.ndarray, y: np.ndarray, sums: np.ndarray) -> np.ndarray:
        return (count * np.einsum("pbic,pbic->pbc", x, y).astype(np.float64) - sums).sum(axis=2)

    together = covariance(a, b, sum_a * sum_b)
    variance_a, variance_b = covariance(a, a, sum_a**2), covariance(b, b, sum_b**2)
    variance = np.maximum(variance_a, variance_b)
    largest = variance.max(axis=1, keepdims=True)
    seen = variance >= np.maximum(3 * (count * _LEAST_DEVIATION) ** 2, _LEAST_SHARE**2 * largest)
    found = together / np.sqrt(np.maximum(variance_a, 1)) / np.sqrt(np.maximum(variance_b, 1))
    ordered = np.sort(np.where(seen, found, np.inf), axis=1)
    tenth = np.maximum(seen.sum(axis=1) - 1, 0) // 10
    return np.minimum(ordered[np.arange(len(one)), tenth], 1)


def _blocks(pixels: np.ndarray) -> np.ndarray:
    """uint8 [P, S, S, 3] → float32 [P, B, pixels of a block, 3]; what is over at the borders is left out.

    Sums of the products of a block's pixels are below 2 ** 24, and so exact in float32.
    """
    side = pixels.shape[1]
    across, border = side // _BLOCK_SIDE, side % _BLOCK_SIDE // 2
    inner = pixels[:, border:, border:][:, : across * _BLOCK_SIDE, : across * _BLOCK_SIDE]
    parts = inner.reshape(-1, across, _BLOCK_SIDE, across, _BLOCK_SIDE, 3).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(len(pixels), across**2, _BLOCK_SIDE**2, 3).astype(np.float32)
