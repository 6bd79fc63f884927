"""Where a split's encoded rows are kept: small arrays in memory, large ones in a mapped temporary file.

The file lies in the system's temporary directory (TMPDIR) and has no name there: however the process ends,
nothing is left of it. What is read of it stays in the system's page cache while memory is free, so that it
is as quick as an array (measured), and is dropped when memory is wanted: a training's own need does not grow
with the data.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

from retrainer.errors import DataError

# Each process of a training, and each of its splits, keeps as much at most.
_IN_MEMORY_BYTES = 1 << 30
_IN_MEMORY_SHARE = 0.125  # of the memory that is free: a small container comes before our convenience
# Where there is no disk either, arrays may take more, before images are kept as their files.
_LAST_RESORT_SHARE = 0.5
_FREE_DISK_SHARE = 0.1  # left to others
_CGROUP = Path("/sys/fs/cgroup")
# Of versions 2 and 1: limit, what is used, and how much of that is cache that makes way.
_CGROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
_MOUNTS = Path("/proc/self/mountinfo")


class Parts:
    """An array that is written part by part. `expected_bytes`, where known, says at once where to."""

    def __init__(self, expected_bytes: int = 0) -> None:
        self._file: IO[bytes] = io.BytesIO()
        self._limit: float = memory_limit()
        self._mapped = False
        self._make_room(expected_bytes)

    def append(self, part: np.ndarray) -> None:
        """Raises UserError when the temporary directory is full before its time."""
        self._make_room(self._file.tell() + part.nbytes)
        try:
            self._file.write(memoryview(np.ascontiguousarray(part).reshape(-1)).cast("B"))
        except OSError as error:
            raise DataError(
                f"the temporary directory {tempfile.gettempdir()} cannot take the encoded data:"
                f" {error.strerror}; make room, or let TMPDIR name a directory that has some"
            ) from None

    def array(self, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        """What was written; nothing may be appended any more."""
        if not self._mapped:
            assert isinstance(self._file, io.BytesIO)
            return np.frombuffer(self._file.getbuffer(), dtype).reshape(shape)
        self._file.flush()
        # Shared and writable, which nobody uses: PyTorch warns of arrays that are not.
        return np.asarray(np.memmap(self._file, dtype, "r+", shape=shape))

    def __del__(self) -> None:
        if self._mapped:
            self._file.close()

    def _make_room(self, wanted: int) -> None:
        """Goes over to a file when so many bytes are too many for memory, and the disk has them."""
        if self._mapped or wanted <= self._limit:
            return
        if wanted > disk_room():
            self._limit = math.inf
            return
        written, self._file = self._file, tempfile.TemporaryFile()  # noqa: SIM115 (lives as its map does)
        assert isinstance(written, io.BytesIO)
        self._file.write(written.getbuffer())
        self._mapped = True


def fits(size: int) -> bool:
    """Whether an array of so many bytes has a place, in memory or on disk."""
    return size <= memory_limit() or size <= disk_room() or size <= _LAST_RESORT_SHARE * free_memory()


def memory_limit() -> int:
    """Bytes up to which an array stays in memory."""
    return min(_IN_MEMORY_BYTES, int(_IN_MEMORY_SHARE * free_memory()))


def free_memory() -> int:
    """Bytes that this process may still take: the machine's, or its container's where those are fewer."""
    free = int(psutil.virtual_memory().available)
    for limit, used, cache in _CGROUP_FILES:
        with suppress(OSError, ValueError, KeyError):  # another version of cgroups, or no limit ("max")
            left = int((_CGROUP / limit).read_text()) - int((_CGROUP / used).read_text())
            stat = (_CGROUP / used).with_name("memory.stat").read_text()
            counts = dict(line.split() for line in stat.splitlines())
            free = min(free, max(0, left + int(counts[cache])))
    return free


def disk_room() -> int:
    """Bytes that a file in the temporary directory may take; 0 where that is itself in memory, or missing."""
    try:
        directory = tempfile.gettempdir()
        if _in_memory(directory):
            return 0
        usage = shutil.disk_usage(directory)
    except OSError:
        return 0
    return max(0, int(usage.free - _FREE_DISK_SHARE * usage.total))


def _in_memory(directory: str) -> bool:
    """Whether Linux keeps the directory in memory (tmpfs), as some distributions do with /tmp."""
    try:
        device = Path(directory).stat().st_dev
        mounts = [line.partition(" - ") for line in _MOUNTS.read_text().splitlines()]
    except OSError:
        return False
    kinds = {before.split()[2]: after.split()[0] for before, _, after in mounts}
    return kinds.get(f"{os.major(device)}:{os.minor(device)}") in {"tmpfs", "ramfs"}
