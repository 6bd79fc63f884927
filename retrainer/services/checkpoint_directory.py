"""The directory, of this machine or a mounted volume, where checkpoints lie, and what is kept beside them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from retrainer.errors import ServiceError

PLACE = "RETRAINER_CHECKPOINTS"
DEFAULT_PLACE = ".checkpoints"
_ASIDE = ".aside"


def named_directory() -> Path | None:
    """The one that the environment names, there or not; None where it names another kind of place, as S3."""
    named = os.environ.get(PLACE, "").strip()
    return None if "://" in named else Path(named or DEFAULT_PLACE).expanduser()


class DirectoryStore:
    """One training's directory below `root`; made by the first checkpoint."""

    def __init__(self, root: Path, digest: str) -> None:
        self._folder = root / digest

    def names(self) -> list[str]:
        with _explained(self._folder):
            return [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        with _explained(self._folder):
            yield self._folder / name

    @contextmanager
    def aside(self) -> Iterator[Path]:
        # Always the same name, so that many kills leave no more than one behind.
        path = self._folder / _ASIDE
        with _explained(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)

    def publish(self, aside: Path, name: str) -> None:
        aside.rename(self._folder / name)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def delete(self, name: str) -> None:
        with _explained(self._folder):
            (self._folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        with _explained(self._folder), suppress(FileNotFoundError):
            shutil.rmtree(self._folder)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ServiceError(
            f"{folder.parent} cannot be used for checkpoints ({reason}); see {PLACE}"
        ) from None
