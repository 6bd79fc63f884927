"""Images that are nearly equal: a perceptual hash finds candidates, their own small pixels decide.

Legend: N images, P pairs, S the side of a thumbnail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from retrainer.data.images import MAX_PIXELS, of_each_image
from retrainer.data.similar.buckets import Buckets, Links, distinct_values, with_copies
from retrainer.formats.dataset import IMAGE_FORMATS

if TYPE_CHECKING:
    from PIL import Image

# S: the hash and the comparison see the image so small, whatever its shape.
_SIDE = 32
# A pixel that differs by so much from the image's median colour is no background. Only pixels that are none
# in one of the two images are compared: else all that shows something small on black would be alike.
_BACKGROUND = 32
# Images with fewer such pixels show nothing to compare: blank scans, flat colours.
_LEAST_PIXELS = 32
# Least correlation of the compared pixels. Set by looking: see benchmarks/trust.
LEAST_CORRELATION = 0.9
_BITS = 64
# Pairs given of one image, at least; of more that are alike, only such pairs as link what is not linked yet.
_GIVEN = 32
# An image meets so many that follow it in a bucket: all of them, unless thousands share one, as the frames
# of a film do. Without a bound their number would count squared.
_NEIGHBOURS = 1024
_BLOCK = 1024
_PAIRS = 1 << 18
_TRANSPARENT = (255, 255, 255)
_GREY = np.array([299.0, 587.0, 114.0])
# The 64 lowest frequencies but the mean, from low to high.
_FREQUENCIES = sorted((u + v, u, v) for u in range(_SIDE) for v in range(_SIDE))[1 : _BITS + 1]
_ROWS, _COLUMNS = (np.array([frequency[axis] for frequency in _FREQUENCIES]) for axis in (1, 2))
# The rows of the cosine transform, as whole numbers: sums of them are exact, in any order of summing.
_ANGLES = (
    np.pi * np.outer(np.arange(1 + max(_ROWS.max(), _COLUMNS.max())), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE)
)
_WAVES = np.round(1024 * np.cos(_ANGLES))


def similar_images(images: pa.ChunkedArray, most_bits: int) -> np.ndarray:
    """Pairs of images of nearly the same pixels: int64 [P, 2], first < second, sorted.

    `images` holds structs of `bytes` and `path`. Candidates are images whose 64-bit perceptual hashes
    (Zauner, 2010) differ in at most `most_bits`; each is then compared by its own pixels. An image that
    cannot be read, or shows nothing, is like no other.
    """
    thumbnails = _thumbnails(images)
    rows = np.array([row for row, pixels in enumerate(thumbnails) if pixels], np.int64)
    if not len(rows):
        return np.empty((0, 2), np.int64)
    distinct, which = distinct_values([pixels for pixels in thumbnails if pixels])
    pixels = np.frombuffer(b"".join(distinct), np.uint8).reshape(-1, _SIDE, _SIDE, 3)
    return rows[with_copies(_alike(pixels, most_bits), which)]


def image_similarity(one: bytes, other: bytes) -> float:
    """Correlation of two encoded images' small pixels, -1 to 1; 0 where one cannot be read or is blank."""
    thumbnails = [_thumbnail(encoded) for encoded in (one, other)]
    if None in thumbnails:
        return 0.0
    a, b = (np.frombuffer(found or b"", np.uint8).reshape(1, _SIDE, _SIDE, 3) for found in thumbnails)
    return float(_correlation(a, b, _shown(a) | _shown(b))[0])


def _thumbnails(images: pa.ChunkedArray) -> list[bytes | None]:
    return of_each_image(images, _thumbnail, None)


def _thumbnail(encoded: pa.Buffer | bytes) -> bytes | None:
    """uint8 [S, S, 3], upright; None where the image cannot be read or shows nothing."""
    pixels = small_pixels(encoded)
    if pixels is None or np.count_nonzero(_shown(pixels[None])) < _LEAST_PIXELS:
        return None
    return pixels.tobytes()


def small_pixels(encoded: pa.Buffer | bytes) -> np.ndarray | None:
    """uint8 [S, S, 3] of an encoded image, upright, whatever its shape; None where it cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(encoded), formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.draft(None, (2 * _SIDE, 2 * _SIDE))
            small = _opaque(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
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


def _in_blocks(of: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """`of` as if of all at once, with the memory of a few."""
    return np.concatenate([of(block) for block in np.array_split(pixels, len(pixels) // _BLOCK + 1)])


def _hashes(pixels: np.ndarray) -> np.ndarray:
    """uint8 [N, S, S, 3] → uint64 [N]: which lowest frequencies of grey are above their median."""
    waves = (_WAVES @ (pixels @ _GREY) @ _WAVES.T)[:, _ROWS, _COLUMNS]
    above = waves > np.median(waves, axis=1, keepdims=True)
    return (above << np.arange(_BITS, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)


def _alike(pixels: np.ndarray, most_bits: int) -> np.ndarray:
    """int64 [P, 2]: all pairs of images that are alike, or of many alike enough to link them all."""
    shown = _in_blocks(_shown, pixels)
    found: list[np.ndarray] = [np.empty((0, 2), np.int64)]
    links = Links(len(pixels), _GIVEN)
    for near in _near(_in_blocks(_hashes, pixels), most_bits):
        for start in range(0, len(near), _BLOCK):
            block = links.undecided(near[start : start + _BLOCK])
            one, other = block.T
            alike = _correlation(pixels[one], pixels[other], shown[one] | shown[other]) >= LEAST_CORRELATION
            links.add(block[alike])
            found.append(block[alike])
    return np.concatenate(found)


def _near(hashes: np.ndarray, most_bits: int) -> Iterator[np.ndarray]:
    """Blocks of int64 [P, 2], first < second, each once: pairs that differ in at most `most_bits`.

    Of most_bits + 1 bands of the bits, one is equal in both of such a pair (Manku et al., 2007).
    """
    bands = [sum(1 << bit for bit in range(band, _BITS, most_bits + 1)) for band in range(most_bits + 1)]
    earlier: list[Buckets] = []
    for mask in np.array(bands, np.uint64):
        buckets = Buckets(hashes & mask, _NEIGHBOURS)
        for pairs in buckets.pairs(_PAIRS):
            near = pairs[np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]) <= most_bits]
            for before in earlier:
                near = near[~before.meet(near)]
            yield near
        earlier.append(buckets)


def _correlation(one: np.ndarray, other: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """uint8 [P, S, S, 3] twice → float64 [P], -1 to 1 (Pearson), over the pixels of bool [P, S, S]."""
    count = 3 * np.count_nonzero(shown, axis=(1, 2))
    # Whole numbers below 2 ** 53: their sums are exact, in any order.
    a, b = (
        (pixels * shown[..., None]).reshape(-1, 3 * _SIDE**2).astype(np.float64) for pixels in (one, other)
    )
    sum_a, sum_b = a.sum(axis=1), b.sum(axis=1)
    covariance = count * np.einsum("pi,pi->p", a, b) - sum_a * sum_b
    variance_a = count * np.einsum("pi,pi->p", a, a) - sum_a**2
    variance_b = count * np.einsum("pi,pi->p", b, b) - sum_b**2
    return covariance / np.sqrt(np.maximum(variance_a, 1)) / np.sqrt(np.maximum(variance_b, 1))


def _shown(pixels: np.ndarray) -> np.ndarray:
    """bool [N, S, S]: where uint8 [N, S, S, 3] differs from the image's median colour."""
    background = np.median(pixels, axis=(1, 2), keepdims=True)
    return (np.abs(pixels - background) >= _BACKGROUND).any(axis=3)
