"""Checkpoints: what a killed training needs to go on bit for bit, written now and then beside the work.

A checkpoint is one file, made by torch.save of tensors and plain values and read with `weights_only`. Its
name tells its position and its own sha256:

    <place>/<digest of train's inputs>/<epoch>-<step>-<sha256>.pt

The training thread only copies its state to host memory; another thread writes. Files appear whole or not at
all, the newest two stay, and the directory goes when the model is there.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Protocol

import torch

from retrainer.errors import UserError
from retrainer.formats.files import sha256_file
from retrainer.messages import logger
from retrainer.training._state import Snapshot
from retrainer.training._stop import Stop

_LOG = logger("train")

FORMAT_VERSION = 1
KEPT = 2
_NAME = re.compile(r"\d{6}-\d{9}-(?P<sha256>[0-9a-f]{64})\.pt")


class Store(Protocol):
    """Where the checkpoints of one training lie: a directory, or a prefix in S3.

    Its methods raise UserError when the place cannot be used.
    """

    def names(self) -> list[str]: ...

    def local(self, name: str) -> AbstractContextManager[Path]:
        """The file, here for as long as the block runs."""

    def aside(self) -> AbstractContextManager[Path]:
        """A path to write a file to, which `publish` then puts in place; what is left of it is removed."""

    def publish(self, aside: Path, name: str) -> None:
        """Under its name at once, and there after a power failure."""

    def delete(self, name: str) -> None: ...

    def clear(self) -> None:
        """Removes all of this training's checkpoints."""


class Place(Protocol):
    """Where and how often this machine keeps checkpoints."""

    @property
    def seconds(self) -> float: ...

    def store(self, digest: str) -> Store: ...


class Checkpoints:
    """Those of one training. Without a place it writes none, and leaves on a signal all the same."""

    def __init__(self, place: Place | None = None, digest: str = "", stop: Stop | None = None) -> None:
        self._store = place.store(digest) if place else None
        self._seconds = place.seconds if place else 0.0
        self._digest = digest
        self.stop = stop or Stop()
        self._last = time.monotonic()
        self._writer: threading.Thread | None = None
        self._written: tuple[int, int] | None = None  # epoch and step of the newest whole one

    def newest(self) -> Snapshot | None:
        """The state to go on from, said in one line; None for a fresh start."""
        for name in sorted(self._names(), reverse=True):
            kept = self._read(name)
            if kept is not None:
                self._written = (kept["epoch"], kept["step"])
                position, when = _position(self._written), _clock(kept["written"])
                _LOG.info("going on from %s (checkpoint of %s)", position, when)
                return kept
        return None

    @property
    def due(self) -> bool:
        """Whether `maybe_save` would write one, or leave."""
        if self.stop.asked is not None:
            return True
        if self._store is None or time.monotonic() - self._last < self._seconds:
            return False
        return self._writer is None or not self._writer.is_alive()

    def maybe_save(self, snapshot: Callable[[], Snapshot]) -> None:
        """Between two steps: writes a checkpoint when one is due; after a signal writes one and leaves."""
        if self.stop.asked is not None:
            self._leave(snapshot)
        if self.due:
            self._last = time.monotonic()
            self._writer = threading.Thread(target=self._write, args=(snapshot(),), name="checkpoint")
            self._writer.start()

    def close(self) -> None:
        """Waits for the one that is being written."""
        if self._writer is not None:
            self._writer.join()

    def clear(self) -> None:
        """Removes them all: the model is there."""
        self.close()
        if self._store is None:
            return
        try:
            self._store.clear()
        except UserError as error:
            _LOG.warning("checkpoints that are no longer needed cannot be removed: %s", error)

    def _leave(self, snapshot: Callable[[], Snapshot]) -> None:
        self.close()
        if self._store is not None:
            self._write(snapshot())
        if self._written is None:
            self.stop.leave("the same command starts over, as there is no checkpoint")
        self.stop.leave(f"the same command goes on from {_position(self._written)}")

    def _names(self) -> list[str]:
        return [name for name in self._store.names() if _NAME.fullmatch(name)] if self._store else []

    def _write(self, state: Snapshot) -> None:
        """A disk that is full or a server that is gone must not end the training."""
        assert self._store is not None
        state |= {"format_version": FORMAT_VERSION, "digest": self._digest, "written": time.time()}
        try:
            with self._store.aside() as aside:
                sha256 = _save(state, aside)
                name = f"{state['epoch']:06}-{state['step']:09}-{sha256}.pt"
                self._store.publish(aside, name)
        except (OSError, RuntimeError, UserError) as error:
            _LOG.warning("no checkpoint could be written (%s); the training goes on", _brief(error))
            return
        self._written = (state["epoch"], state["step"])
        self._delete_old()

    def _delete_old(self) -> None:
        assert self._store is not None
        try:
            for old in sorted(self._names())[:-KEPT]:
                self._store.delete(old)
        except UserError as error:
            _LOG.warning("older checkpoints cannot be removed (%s); the training goes on", _brief(error))

    def _read(self, name: str) -> Snapshot | None:
        """None, with a line, for one that must not be used."""
        assert self._store is not None
        with self._store.local(name) as file:
            if sha256_file(file) != _sha256_in(name):
                _LOG.warning("checkpoint %s is damaged and removed", name)
                self._store.delete(name)
                return None
            try:
                kept: Snapshot = torch.load(file, map_location="cpu", weights_only=True)
            except Exception as error:  # whole, and yet not of our making
                _LOG.warning("checkpoint %s cannot be read (%s) and is left alone", name, _brief(error))
                return None
        if not isinstance(kept, dict) or kept.get("format_version") != FORMAT_VERSION:
            _LOG.warning("checkpoint %s is of another format and left alone", name)
            return None
        if kept.get("digest") != self._digest:
            _LOG.warning("checkpoint %s is of another training and left alone", name)
            return None
        return kept


def rows_trained(kept: Snapshot | None, rows: int) -> int:
    """Rows that the training behind a snapshot has shown in its progress, at so many rows an epoch."""
    return 0 if kept is None else (int(kept["epoch"]) - 1) * rows + int(kept["rows"])


def _save(state: Snapshot, path: Path) -> str:
    """Writes and flushes the file; returns its sha256, taken on the way."""
    with path.open("wb") as stream:
        hashed = _Hashed(stream)
        torch.save(state, hashed)
        stream.flush()
        os.fsync(stream.fileno())
    return hashed.sha256.hexdigest()


class _Hashed:
    """As much of a file as torch.save asks for."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()


def _sha256_in(name: str) -> str:
    found = _NAME.fullmatch(name)
    assert found
    return found["sha256"]


def _position(at: tuple[int, int]) -> str:
    return f"epoch {at[0]}, step {at[1]}"


def _clock(seconds: float) -> str:
    """The time of day, after its date when that is not today's."""
    then = datetime.fromtimestamp(seconds).astimezone()
    today = then.date() == datetime.now().astimezone().date()
    return then.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
