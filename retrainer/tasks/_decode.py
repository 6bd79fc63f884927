"""Encoded images → uint8 arrays of one shape, whatever the camera or the program wrote."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

from retrainer.errors import DataError
from retrainer.formats.dataset import IMAGE_FORMATS
from retrainer.tasks._classes import row_name
from retrainer.tasks._decode_workers import DecodeWorkers

# Threads only pay where decoding and scaling do (they free the interpreter's lock); small images are quicker
# without.
_BYTES_WORTH_A_THREAD = 16_384
_PIXELS_WORTH_A_THREAD = 128 * 128
# So many small images take a core seconds, and processes a second to begin.
_IMAGES_WORTH_PROCESSES = 8192
_FEWEST_CORES, _MOST_PROCESSES = 4, 16
# So many larger images take a core about 10 seconds; a set that is decoded part by part keeps its processes.
_LARGE_IMAGES_WORTH_PROCESSES = 4096
_TRANSPARENT = (255, 255, 255)


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
        column = self.table["image"]
        images = [column[row].as_py() for row in rows]
        encoded = [None if image is None else image["bytes"] for image in images]
        names = [row_name(self.table, row) for row in rows]
        if self._workers is None:
            return decode_images(encoded, self.size, self.channels, names)
        pixels: np.ndarray = np.empty((len(encoded), self.channels, *self.size), dtype=np.uint8)
        for part in self._workers.decode([data or b"" for data in encoded], pixels):
            # Here it can be told which row it is.
            pixels[part] = decode_images(encoded[part], self.size, self.channels, names[part])
        return pixels

    @cached_property
    def _workers(self) -> DecodeWorkers | None:
        """Processes where there are cores for them and enough large images."""
        cores, count = os.cpu_count() or 1, len(self)
        if cores < _FEWEST_CORES or count < _LARGE_IMAGES_WORTH_PROCESSES:
            return None
        if not _is_large(self.table["image"].nbytes / count, self.size):
            return None
        # The training itself wants some: of 16 cores, 12 processes decoded no slower than 16 (measured).
        return DecodeWorkers(min(3 * cores // 4, _MOST_PROCESSES))


def decode_images(
    encoded: Sequence[bytes | None], size: tuple[int, int], channels: int, names: Sequence[str]
) -> np.ndarray:
    """Encoded images → uint8 [N, C, H, W]. Raises UserError with the row's name for one that does not decode.

    An image of another size is scaled until it covers `size` (height, width), and its centre is kept.
    """
    pixels: np.ndarray = np.empty((len(encoded), channels, *size), dtype=np.uint8)

    def fill(row: int) -> None:
        pixels[row] = decode_image(encoded[row], size, channels, names[row])

    if _is_large(sum(len(data or b"") for data in encoded) / max(1, len(encoded)), size):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(fill, range(len(encoded))))
    elif len(encoded) >= _IMAGES_WORTH_PROCESSES and (os.cpu_count() or 1) >= _FEWEST_CORES:
        _decode_in_processes(pixels, encoded, size, channels, names)
    else:
        for row in range(len(encoded)):
            fill(row)
    return pixels


def _is_large(mean_bytes: float, size: tuple[int, int]) -> bool:
    return mean_bytes > _BYTES_WORTH_A_THREAD or size[0] * size[1] > _PIXELS_WORTH_A_THREAD


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
    code = f"import sys; sys.path[:] = {sys.path!r}; from retrainer.tasks import _decode; _decode.work()"
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


def work() -> None:
    """What such a process does: images from stdin, pixels to stdout."""
    stream = sys.stdin.buffer
    count, height, width, channels = json.loads(stream.readline())
    lengths = np.frombuffer(stream.read(8 * count), np.int64).tolist()
    encoded = [stream.read(length) for length in lengths]
    decoded = [decode_image(data, (height, width), channels, "") for data in encoded]
    sys.stdout.buffer.write(np.stack(decoded).tobytes())


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
        reason = "it is empty" if not data else " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: the image cannot be decoded: {reason}") from None
    return plain, (height, width) if turned else (width, height)


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
