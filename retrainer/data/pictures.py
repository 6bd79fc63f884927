"""A hash of what a picture shows: nearly the same when the file is saved again, in another quality or format.

Unlike a hash of the bytes, it differs in some bits where the pixels differ slightly; two such hashes are
compared by their number of different bits (`retrainer.known_rows`).
Legend: N images, S the side of the small image that is looked at, W words of 64 bits.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from retrainer.data.images import of_each_file
from retrainer.data.similar.frequencies import GREY, Frequencies
from retrainer.data.similar.pixels import SIDE, small_pixels

WORDS = 4
# Frequencies of grey, and of either of two colour differences: from low to high, without the mean.
_GREY, _COLOUR = 192, 32
# Grey levels by which a picture must differ from its mean, in the root of the mean square: else it is blank.
_LEAST_CONTRAST = 2.0
_FREQUENCIES = Frequencies(SIDE, _GREY)
_BLOCK = 1024


def picture_hashes(images: pa.ChunkedArray) -> np.ndarray:
    """uint64 [N, W] of encoded images, zeros where one cannot be read or is blank.

    Bits are the signs of the lowest frequencies of the cosine transform, as of a perceptual hash (Zauner,
    2010), of light and of colour.
    """
    small = of_each_file(images, small_pixels, None)
    found: np.ndarray = np.zeros((len(small), WORDS), np.uint64)
    shown = [row for row, pixels in enumerate(small) if pixels is not None]
    for start in range(0, len(shown), _BLOCK):
        rows = shown[start : start + _BLOCK]
        found[rows] = _hashes(np.stack([small[row] for row in rows]))
    return found


def _hashes(pixels: np.ndarray) -> np.ndarray:
    """uint8 [N, S, S, 3] → uint64 [N, W]."""
    levels: np.ndarray = pixels.astype(np.int64)
    grey = levels @ GREY
    planes = [grey, 1000 * levels[..., 0] - grey, 1000 * levels[..., 2] - grey]
    counts = (_GREY, _COLOUR, _COLOUR)
    signs = np.concatenate([_signs(one, count) for one, count in zip(planes, counts, strict=True)], axis=1)
    packed = np.ascontiguousarray(np.packbits(signs, axis=1, bitorder="little"))
    hashes = packed.view("<u8").astype(np.uint64)
    contrast = grey.std(axis=(1, 2)) / 1000
    return np.where(contrast[:, None] < _LEAST_CONTRAST, np.uint64(0), hashes)


def _signs(plane: np.ndarray, count: int) -> np.ndarray:
    """bool [N, count] of whole numbers [N, S, S]: which of the lowest frequencies are above 0."""
    return _FREQUENCIES.of(plane)[:, :count] > 0
