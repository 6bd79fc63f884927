"""Large images decoded by processes: the same pixels, the broken row by its name, and nobody left behind."""

from __future__ import annotations

import gc
import io
import os
import signal
from collections.abc import Iterator

import numpy as np
import psutil
import pyarrow as pa
import pytest
from PIL import Image

from retrainer.errors import UserError
from retrainer.tasks import _decode
from retrainer.tasks._decode import EncodedImages, decode_images
from retrainer.tasks._decode_workers import DecodeWorkers

SIZE = (24, 20)


def photographs(count: int) -> list[bytes]:
    draws = np.random.default_rng(0)
    files = []
    for number in range(count):
        buffer = io.BytesIO()
        pixels = draws.integers(0, 256, (40 + number, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG", exif=rotated(number))
        files.append(buffer.getvalue())
    return files


def rotated(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 1 + number % 8  # orientation
    return exif.tobytes()


@pytest.fixture(scope="module")
def workers() -> Iterator[DecodeWorkers]:
    made = DecodeWorkers(2)
    yield made
    made.close()


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "_decode_workers" in " ".join(child.cmdline())]


def test_processes_give_the_same_pixels(workers: DecodeWorkers) -> None:
    encoded = photographs(9)
    here = decode_images(encoded, SIZE, 3, [""] * len(encoded))
    # Each time another number of images: the memory between the processes grows and is used again.
    for count in (3, 9, 1):
        pixels = np.zeros((count, 3, *SIZE), np.uint8)
        assert workers.decode(encoded[:count], pixels) == []
        assert np.array_equal(pixels, here[:count])


def test_the_part_with_a_broken_image_comes_back(workers: DecodeWorkers) -> None:
    encoded = photographs(6)
    encoded[4] = encoded[4][:30]
    pixels = np.zeros((6, 3, *SIZE), np.uint8)
    assert workers.decode(encoded, pixels) == [slice(3, 6)]
    assert pixels[:3].any(axis=(1, 2, 3)).all()


def test_a_worker_that_is_killed_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_decode, "_LARGE_IMAGES_WORTH_PROCESSES", 4)
    monkeypatch.setattr(_decode, "_FEWEST_CORES", 1)
    monkeypatch.setattr(_decode, "_hardware_threads", lambda: 2)
    monkeypatch.setattr(_decode, "_PIXELS_WORTH_A_THREAD", 16)
    monkeypatch.setattr(_decode, "_MOST_PROCESSES", 2)
    encoded = photographs(6)
    images = EncodedImages(table(encoded), SIZE, 3)
    here = decode_images(encoded, SIZE, 3, [""] * 6)
    before = children()
    assert np.array_equal(images.decode(range(6)), here)
    own = [child for child in children() if child not in before]
    os.kill(own[0].pid, signal.SIGKILL)
    own[0].wait()
    assert np.array_equal(images.decode(range(6)), here)
    broken = EncodedImages(table([*encoded[:5], b"no image"]), SIZE, 3)
    with pytest.raises(UserError, match=r"photos/5\.jpg: the image cannot be decoded"):
        broken.decode(range(6))
    del images, broken
    gc.collect()
    assert [child for child in children() if child not in before and child.is_running()] == []


def table(encoded: list[bytes]) -> pa.Table:
    rows = [{"bytes": data, "path": None} for data in encoded]
    return pa.table({"image": rows, "origin": [f"photos/{row}.jpg" for row in range(len(rows))]})
