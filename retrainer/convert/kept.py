"""Converted weights are made once, and used as long as the hashes of their files hold."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from retrainer.errors import DataError
from retrainer.formats.files import MANIFEST, hash_files, read_manifest, whole_directory, write_json

_VERSION = 1


def kept(into: Path, kind: str, write: Callable[[Path], None]) -> Path:
    """The directory `into`; `write` fills one where it is not there, or no longer as it was written."""
    with suppress(DataError):
        read_manifest(into, kind, _VERSION)
        return into
    with whole_directory(into) as aside:
        write(aside)
        write_json(aside / MANIFEST, {"kind": kind, "format_version": _VERSION, "files": hash_files(aside)})
    return into
