"""Pixels as PNG bytes that are the same on every machine.

An image library's compressor may pack the same pixels differently from one build to the next, which would
change the dataset's content hash. Here nothing is packed: one stored block (RFC 1951, 3.2.4) in a zlib
stream (RFC 1950); the dataset's own compression makes the file small.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from retrainer.formats.png import png_file

_LARGEST_STORED_BLOCK = 65_535


def grey_png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W] → PNG bytes; H × (W + 1) is at most 65,535."""
    height, width = pixels.shape
    return _png(pixels, height, width, colour_type=0)


def colour_png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, 3], red first → PNG bytes; H × (3 W + 1) is at most 65,535."""
    height, width, _ = pixels.shape
    return _png(pixels.reshape(height, 3 * width), height, width, colour_type=2)


def _png(rows: np.ndarray, height: int, width: int, colour_type: int) -> bytes:
    filtered = np.zeros((height, rows.shape[1] + 1), np.uint8)  # each row begins with filter type 0
    filtered[:, 1:] = rows
    data = filtered.tobytes()
    assert len(data) <= _LARGEST_STORED_BLOCK
    block = struct.pack("<BHH", 1, len(data), len(data) ^ 0xFFFF)
    stream = b"\x78\x01" + block + data + struct.pack(">I", zlib.adler32(data))
    return png_file((height, width), colour_type, {b"IDAT": stream})
