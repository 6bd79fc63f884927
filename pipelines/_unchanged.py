"""Whether anything has changed since DVC last had nothing to do: if not, it need not be loaded and asked.

DVC goes by its two files, the settings, and the files that stages read and write. A snapshot of all that is
taken before DVC is asked, and kept when it finds nothing to do: whatever changes later differs from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from retrainer.formats.files import digest_of, write_text
from retrainer.resolve import Resolved

# All scalars are texts to it, as paths are: half the time of a loader that looks for numbers and dates.
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_LOCK = "dvc.lock"
_FILES = ("dvc.yaml", _LOCK, ".dvc/config", ".dvc/config.local", ".dvcignore")
_KEPT = "nothing-to-do"


def snapshot(resolved: Resolved, root: Path) -> str:
    """Sha256 of the state that DVC would look at; empty where that cannot be told from files here."""
    try:
        paths = sorted(set(_paths(root / _LOCK, resolved.recipe)))
        texts = [path.read_text(encoding="utf-8") for path in _described_by(resolved, root)]
        seen = [[path, *_entries(root / path)] for path in paths]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return ""
    return "" if any("://" in path for path in paths) else digest_of([texts, seen])


def is_known(resolved: Resolved, state: str) -> bool:
    """Whether DVC had nothing to do when everything was in this state."""
    kept = resolved.directory / _KEPT
    return bool(state) and kept.is_file() and kept.read_text(encoding="utf-8") == state


def remember(resolved: Resolved, state: str) -> None:
    write_text(resolved.directory / _KEPT, state)


def _described_by(resolved: Resolved, root: Path) -> list[Path]:
    files = [resolved.directory / "settings.json", *(root / name for name in _FILES)]
    return [path for path in files if path.is_file()]


def _paths(lock: Path, recipe: str) -> Iterator[str]:
    """What the recipe's stages, and stages of no recipe, read and write, by what DVC wrote down of them."""
    stages: dict[str, Any] = yaml.load(lock.read_text(encoding="utf-8"), Loader=_LOADER)["stages"]  # noqa: S506 (a safe one)
    for name, stage in stages.items():
        if name.partition("@")[2] in ("", recipe):
            yield from (entry["path"] for kind in ("deps", "outs") for entry in stage.get(kind, ()))


def _entries(path: Path) -> Iterator[list[Any]]:
    """The file, or every file below the directory, with all by which an edit shows."""
    if path.is_dir():
        for inside in sorted(path.iterdir()):
            yield from _entries(inside)
    else:
        status = path.stat()
        yield [str(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
