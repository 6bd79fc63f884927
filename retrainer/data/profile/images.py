"""Images as numbers: light, colour and shape, and the lowest frequencies of the picture.

Legend: N images, S measures, D dimensions, P the side of the small image that is looked at.
"""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pyarrow as pa

from retrainer.data.similar.pixels import small_pixels
from retrainer.formats.images import IMAGE_FORMATS

NAMES = ("brightness", "contrast", "saturation", "warmth", "sharpness", "pixels", "width to height")
_SIDE = 32
# So many frequencies of grey and of each of two colour differences, in either direction.
_GREY, _COLOUR = 6, 3
DIMENSIONS = _GREY**2 + 2 * _COLOUR**2
_IMAGES_PER_JOB = 64
_WEIGHTS = np.array([0.299, 0.587, 0.114])
# The rows of the orthonormal cosine transform.
_WAVES = np.cos(np.pi * np.outer(np.arange(_GREY), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE)) / np.sqrt(_SIDE)


def measure(column: pa.ChunkedArray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """NAMES, float [N, S] and float [N, D] of a column of encoded images.

    Light and colour are in levels of 0 to 255; sizes are logarithms. An image that cannot be read is grey.
    """
    encoded = [one.as_buffer() for chunk in column.chunks for one in chunk.flatten()[0]]
    jobs = [encoded[start : start + _IMAGES_PER_JOB] for start in range(0, len(encoded), _IMAGES_PER_JOB)]
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # a decoder's remark is no reason to leave an image out
        blocks = list(pool.map(_measure, jobs))
    if not blocks:
        return NAMES, np.zeros((0, len(NAMES))), np.zeros((0, DIMENSIONS))
    measures, embedding = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return NAMES, measures, embedding


def _measure(encoded: list[pa.Buffer]) -> tuple[np.ndarray, np.ndarray]:
    small = [small_pixels(one) for one in encoded]
    pixels = np.stack([np.full((_SIDE, _SIDE, 3), 128) if one is None else one for one in small])
    colours = pixels.astype(np.float64)
    grey = colours @ _WEIGHTS
    red, blue = colours[..., 0] - grey, colours[..., 2] - grey
    light = [
        grey.mean((1, 2)),
        grey.std((1, 2)),
        np.ptp(colours, axis=3).mean((1, 2)),
        (red - blue).mean((1, 2)),
    ]
    sharpness = np.abs(np.diff(grey, axis=2)).mean((1, 2))
    measures = np.column_stack([*light, sharpness, np.array([_shape(one) for one in encoded])])
    waves = [_frequencies(grey, _GREY), _frequencies(red, _COLOUR), _frequencies(blue, _COLOUR)]
    return measures, np.concatenate(waves, axis=1)


def _frequencies(plane: np.ndarray, count: int) -> np.ndarray:
    """float [N, count²] of float [N, P, P]: the lowest of its two-dimensional cosine transform."""
    waves = _WAVES[:count]
    return (waves @ plane @ waves.T).reshape(len(plane), -1)


def _shape(encoded: pa.Buffer) -> tuple[float, float]:
    """Logarithms of the number of pixels and of width to height, from the image's header."""
    from PIL import Image

    try:
        with Image.open(BytesIO(encoded), formats=IMAGE_FORMATS) as image:
            width, height = image.size
    except Exception:  # as above
        return 0.0, 0.0
    return float(np.log2(width * height)), float(np.log2(width / height))
