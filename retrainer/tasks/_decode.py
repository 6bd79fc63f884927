"""Encoded images → uint8 arrays of one shape, whatever the camera or the program wrote."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrainer.tasks._decode_image import decode_image

# Threads only pay where decoding and scaling do (they free the interpreter's lock); small images are quicker
# without.
_BYTES_WORTH_A_THREAD = 16_384
_PIXELS_WORTH_A_THREAD = 128 * 128
# So many small images take a core seconds, and processes a second to begin.
_IMAGES_WORTH_PROCESSES = 8192
_FEWEST_CORES, _MOST_PROCESSES = 4, 16


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
        encoded = _values(pc.struct_field(self.table["image"], "bytes"), rows)
        named = "origin" in self.table.column_names
        names = _values(self.table["origin"], rows) if named else [f"row {row}" for row in rows]
        return decode_images(encoded, self.size, self.channels, names)


def _values(column: pa.ChunkedArray, rows: Sequence[int]) -> list[Any]:
    if isinstance(rows, range) and rows.step == 1:  # many times faster than one by one
        values: list[Any] = column.slice(rows.start, len(rows)).to_pylist()
        return values
    return [column[row].as_py() for row in rows]


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
    elif len(encoded) >= _IMAGES_WORTH_PROCESSES and (os.cpu_count() or 1) >= _FEWEST_CORES:
        _decode_in_processes(pixels, encoded, size, channels, names)
    else:
        for row in range(len(encoded)):
            fill(row)
    return pixels


def _decode_in_processes(
    pixels: np.ndarray,
    encoded: Sequence[bytes | None],
    size: tuple[int, int],
    channels: int,
    names: Sequence[str],
) -> None:
    """Fills `pixels`: of small images most of the time is the interpreter's, which threads share.

    The share of a process that fails is decoded here, where what is wrong can be told.
    """
    processes = min(os.cpu_count() or 1, _MOST_PROCESSES)
    each = -(-len(encoded) // processes)
    shares = [slice(start, start + each) for start in range(0, len(encoded), each)]

    def fill(share: slice) -> None:
        made = _decoded_elsewhere(encoded[share], size, channels)
        if made is None:
            made = np.stack(
                [
                    decode_image(*one)
                    for one in zip(encoded[share], repeat(size), repeat(channels), names[share])
                ]
            )
        pixels[share] = made

    with ThreadPoolExecutor(len(shares)) as pool:
        list(pool.map(fill, shares))


def _decoded_elsewhere(
    encoded: Sequence[bytes | None], size: tuple[int, int], channels: int
) -> np.ndarray | None:
    """uint8 [N, C, H, W] from a process of its own; None where it failed."""
    lengths: np.ndarray = np.array([len(data or b"") for data in encoded], np.int64)
    header = json.dumps([len(encoded), *size, channels]).encode()
    code = f"import sys; sys.path[:] = {sys.path!r}; from retrainer.tasks._decode_image import work; work()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=b"".join([header, b"\n", lengths.tobytes(), *(data or b"" for data in encoded)]),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    shape = (len(encoded), channels, *size)
    if done.returncode or len(done.stdout) != math.prod(shape):
        return None
    return np.frombuffer(done.stdout, np.uint8).reshape(shape)
