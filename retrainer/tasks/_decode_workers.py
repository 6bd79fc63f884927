"""Processes that decode images for this one.

A part of each image's time is the interpreter's, which threads share: sixteen of them decode little faster
than a few. A worker reads encoded images from its standard input and writes their pixels into memory that it
shares with this process.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO

import numpy as np

_DONE, _FAILED = b"done\n", b"failed\n"
_CODE = (
    "import sys; sys.path[:] = {!r}; from retrainer.tasks import _decode_workers; _decode_workers.work({})"
)


class DecodeWorkers:
    """So many processes. They end with `close`, when nobody holds this any more, or with this process."""

    def __init__(self, processes: int) -> None:
        workers = [_Worker() for _ in range(processes)]
        self._workers, self._threads = workers, ThreadPoolExecutor(processes, "decode")
        self.close = weakref.finalize(self, _end, workers, self._threads)

    def decode(self, encoded: Sequence[bytes], pixels: np.ndarray) -> list[slice]:
        """Fills `pixels`, uint8 [N, C, H, W]; returns the parts of it with which a worker failed."""
        each = max(1, math.ceil(len(encoded) / len(self._workers)))
        parts = [slice(start, start + each) for start in range(0, len(encoded), each)]
        workers = self._workers[: len(parts)]
        done = self._threads.map(
            lambda worker, part: worker.fill(pixels[part], encoded[part]), workers, parts
        )
        return [part for part, filled in zip(parts, done, strict=True) if not filled]


class _Worker:
    """One process, and the memory in which it leaves pixels."""

    def __init__(self) -> None:
        self._file = _memory_file()
        self._map: mmap.mmap | None = None
        number = self._file.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE.format(sys.path, number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[number],
        )

    def fill(self, pixels: np.ndarray, encoded: Sequence[bytes]) -> bool:
        """Whether the worker decoded all of them into `pixels`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        lengths: np.ndarray = np.array([len(data) for data in encoded], np.int64)
        header = json.dumps(pixels.shape).encode() + b"\n"
        try:
            shared = self._shared(pixels.nbytes)
            self._process.stdin.write(b"".join([header, lengths.tobytes(), *encoded]))
            self._process.stdin.flush()
            if self._process.stdout.readline() != _DONE:
                return False
        except OSError:  # the worker has ended, or there is no memory to share
            return False
        pixels[:] = np.frombuffer(shared, np.uint8, pixels.size).reshape(pixels.shape)
        return True

    def _shared(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            os.ftruncate(self._file.fileno(), size)
            self._map = mmap.mmap(self._file.fileno(), size)
        return self._map

    def end(self) -> None:
        """A worker ends by itself when nobody can send it anything any more."""
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        self._process.wait()
        self._file.close()


def _end(workers: list[_Worker], threads: ThreadPoolExecutor) -> None:
    threads.shutdown()
    for worker in workers:
        worker.end()


def _memory_file() -> IO[bytes]:
    """A file without a name, in memory where the system has such files (Linux)."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("pixels"), "r+b")
    return tempfile.TemporaryFile()


def work(number: int) -> None:
    """What a worker does until its standard input ends; `number` is the shared file's descriptor."""
    from retrainer.errors import DataError
    from retrainer.tasks._decode_image import decode_image

    source, answers = sys.stdin.buffer, sys.stdout.buffer
    shared: mmap.mmap | None = None
    while header := source.readline():
        count, channels, *size = json.loads(header)
        lengths = np.frombuffer(source.read(8 * count), np.int64).tolist()
        images = [source.read(length) for length in lengths]
        needed = math.prod((count, channels, *size))
        if shared is None or len(shared) < needed:
            shared = mmap.mmap(number, needed)
        pixels = np.frombuffer(shared, np.uint8, needed).reshape(count, channels, *size)
        try:
            for place, data in enumerate(images):
                pixels[place] = decode_image(data, (size[0], size[1]), channels, "")
            answers.write(_DONE)
        except DataError:
            answers.write(_FAILED)
        answers.flush()
