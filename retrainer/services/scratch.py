"""Temporary directories that a killed process does not leave behind for good."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_PREFIX = f"retrainer-{os.getuid()}-"
_LOCK = ".lock"


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """An empty directory while the block runs, in the directory for temporary files (TMPDIR).

    Its owner holds a lock inside it, which the kernel lets go however the owner ends. So the next call can
    tell what a killed process has left, a whole model for instance, and deletes it.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _delete_if_left(left)
    folder, lock = _locked()
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)


def scratch_directory_across_exec() -> Path:
    """An empty directory for the process that this one becomes by exec, which deletes its parent at the end.

    The lock passes over to that process: where it is killed, the next scratch directory deletes what it left.
    """
    folder, lock = _locked()
    with lock:  # a second descriptor keeps the lock, and stays open
        os.set_inheritable(os.dup(lock.fileno()), True)
    return folder


def _locked() -> tuple[Path, IO[str]]:
    """A new directory, and its lock, held. Another call may delete it before that; then a new one."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX)) / "scratch"
        folder.mkdir()
        lock = (folder.parent / _LOCK).open("w")
        with suppress(OSError):  # a file system without locks, where nothing of others is deleted either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder, lock
        lock.close()


def _delete_if_left(folder: Path) -> None:
    """Deletes it unless its owner lives; one without a lock yet has just been made."""
    with suppress(OSError):
        if folder.lstat().st_uid != os.getuid():
            return  # anybody may write there
        lock = os.open(folder / _LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
