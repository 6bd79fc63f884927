"""Where checkpoints lie, by the environment: a directory (this machine's, or a mounted volume) or S3.

RETRAINER_CHECKPOINTS         a directory, or s3://BUCKET/PREFIX; `.checkpoints` when it is not set
RETRAINER_CHECKPOINT_SECONDS  how often one is written; 0 turns them off; 300 when it is not set
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from retrainer.errors import SettingError
from retrainer.messages import logger
from retrainer.services.checkpoint_directory import DEFAULT_PLACE, PLACE, DirectoryStore
from retrainer.services.s3 import SCHEME, download, s3_client, s3_explained, split_address
from retrainer.services.scratch import scratch_directory

SECONDS = "RETRAINER_CHECKPOINT_SECONDS"
DEFAULT_SECONDS = 300.0


@dataclass(frozen=True)
class CheckpointPlace:
    """`root` holds one directory, or one prefix, a training."""

    root: str
    seconds: float

    @property
    def directory(self) -> Path | None:
        """None in S3."""
        return None if self.root.startswith(SCHEME) else Path(self.root).expanduser()

    def store(self, digest: str) -> DirectoryStore | S3Store:
        if self.directory is None:
            return S3Store(*split_address(self.root, PLACE), digest)
        return DirectoryStore(self.directory, digest)


def checkpoint_place() -> CheckpointPlace | None:
    """What the environment says; None when checkpoints are turned off, or nothing can be written here.

    Raises UserError for a number that is none, and a named place that cannot be used.
    """
    seconds = _seconds()
    if seconds == 0:
        return None
    named = os.environ.get(PLACE, "").strip()
    if named.startswith(SCHEME):
        split_address(named, PLACE)
        return CheckpointPlace(named, seconds)
    path = Path(named or DEFAULT_PLACE).expanduser()
    there = next(folder for folder in (path, *path.absolute().parents) if os.access(folder, os.F_OK))
    if os.access(there, os.W_OK | os.X_OK) and there.is_dir():
        return CheckpointPlace(str(path), seconds)
    if named:
        raise SettingError(f"{PLACE}={named}: nothing can be written there; name another place, or unset it")
    logger("train").warning(
        "nothing can be written in %s, so a training that is killed starts over; %s names a place for"
        " checkpoints",
        *(Path.cwd(), PLACE),
    )
    return None


def _seconds() -> float:
    given = os.environ.get(SECONDS, "").strip()
    try:
        seconds = float(given) if given else DEFAULT_SECONDS
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise SettingError(f"{SECONDS}={given}: needed is a number of seconds, or 0 to turn checkpoints off")
    return seconds


class S3Store:
    """One training's prefix. A put, of several parts too, appears whole or not at all."""

    def __init__(self, bucket: str, prefix: str, digest: str) -> None:
        self._bucket = bucket
        self._prefix = "/".join(part for part in (prefix, digest) if part) + "/"

    @cached_property
    def _client(self) -> Any:
        return s3_client()

    def _explained(self) -> AbstractContextManager[None]:
        return s3_explained(f"{PLACE}={SCHEME}{self._bucket}/{self._prefix}")

    def names(self) -> list[str]:
        with self._explained():
            listing = self._client.get_paginator("list_objects_v2")
            pages = listing.paginate(Bucket=self._bucket, Prefix=self._prefix)
            keys = [str(entry["Key"]) for page in pages for entry in page.get("Contents", ())]
        return [key.removeprefix(self._prefix) for key in keys]

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        with scratch_directory() as folder:
            path = folder / name
            with self._explained():
                download(self._client, self._bucket, self._prefix + name, path)
            yield path

    @contextmanager
    def aside(self) -> Iterator[Path]:
        with scratch_directory() as folder:
            yield folder / "checkpoint"

    def publish(self, aside: Path, name: str) -> None:
        with self._explained():
            self._client.upload_file(str(aside), self._bucket, self._prefix + name)

    def delete(self, name: str) -> None:
        with self._explained():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def clear(self) -> None:
        for name in self.names():
            self.delete(name)
