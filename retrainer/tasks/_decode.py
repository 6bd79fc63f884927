"""Encoded images → uint8 arrays of one shape, whatever the camera or the program wrote."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrainer.messages import logger
from retrainer.tasks._classes import row_name
from retrainer.tasks._decode_image import decode_image
from retrainer.tasks._decode_workers import DecodeWorkers

_LOG = logger("train")

# Threads only pay where decoding and scaling do (they free the interpreter's lock); small images are quicker
# without.
_BYTES_WORTH_A_THREAD = 16_384
_PIXELS_WORTH_A_THREAD = 128 * 128
# So many small images take a core seconds, and processes a second to begin.
_IMAGES_WORTH_PROCESSES = 8192
_FEWEST_CORES, _MOST_PROCESSES = 4, 16
# So many larger images take a core about 10 seconds; a set that is decoded part by part keeps its processes.
_LARGE_IMAGES_WORTH_PROCESSES = 4096


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
        names = [row_name(self.table, row) for row in rows]
        return decode_images(encoded, self.size, self.channels, names, self._workers)

    @cached_property
    def _workers(self) -> DecodeWorkers | None:
        """Processes where there are cores for them and enough large images."""
        cores, count = _hardware_threads(), len(self)
        if cores < _FEWEST_CORES or count < _LARGE_IMAGES_WORTH_PROCESSES:
            return None
        if not _is_large(self.table["image"].nbytes / count, self.size):
            return None
        # The training itself wants some: of 16 cores, 12 processes decoded no slower than 16 (measured).
        return DecodeWorkers(min(3 * cores // 4, _MOST_PROCESSES))


def _values(column: pa.ChunkedArray, rows: Sequence[int]) -> list[Any]:
    if isinstance(rows, range) and rows.step == 1:  # many times faster than one by one
        values: list[Any] = column.slice(rows.start, len(rows)).to_pylist()
        return values
    return [column[row].as_py() for row in rows]


def decode_images(
    encoded: Sequence[bytes | None],
    size: tuple[int, int],
    channels: int,
    names: Sequence[str],
    workers: DecodeWorkers | None = None,
) -> np.ndarray:
    """Encoded images → uint8 [N, C, H, W]. Raises UserError with the row's name for one that does not decode.

    An image of another size is scaled until it covers `size` (height, width), and its centre is kept.
    `workers`: processes that are there already.
    """
    pixels: np.ndarray = np.empty((len(encoded), channels, *size), dtype=np.uint8)

    def fill(row: int) -> None:
        pixels[row] = decode_image(encoded[row], size, channels, names[row])

    def fill_by(workers: DecodeWorkers) -> None:
        parts = workers.decode([data or b"" for data in encoded], pixels)
        if left := [row for part in parts for row in range(len(encoded))[part]]:
            with ThreadPoolExecutor(cores) as pool:  # here it can be told which row does not decode
                list(pool.map(fill, left))
            _LOG.warning("%s images were decoded here: a process for that failed", f"{len(left):,}")

    cores = _hardware_threads()
    if workers is not None:
        fill_by(workers)
    elif _is_large(sum(len(data or b"") for data in encoded) / max(1, len(encoded)), size):
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(fill, range(len(encoded))))
    elif len(encoded) >= _IMAGES_WORTH_PROCESSES and cores >= _FEWEST_CORES:
        with closing(DecodeWorkers(min(cores, _MOST_PROCESSES))) as made:
            fill_by(made)
    else:
        for row in range(len(encoded)):
            fill(row)
    return pixels


def _is_large(mean_bytes: float, size: tuple[int, int]) -> bool:
    return mean_bytes > _BYTES_WORTH_A_THREAD or size[0] * size[1] > _PIXELS_WORTH_A_THREAD


def _hardware_threads() -> int:
    """That this process may use. (A served model imports nothing of training, which knows more of cores.)"""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
