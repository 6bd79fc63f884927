"""An own test set that is the training data itself, under the same name or another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from retrainer.data.fingerprint import Listing
from retrainer.errors import SettingError
from retrainer.settings import Source

_TEST = "test_path"
# These readers take the tables that lie directly in a folder, others all that lies anywhere in it.
_FLAT = ("csv", "jsonl", "parquet")


def refuse_same_files(source: Source, listing: Listing) -> None:
    """Raises SettingError where `source.test_path` is, or lies in, `source.path`, or has the very same files.

    `listing` has the name and sha256 of every file, those of the test as `test_path/…`.
    """
    if not source.test_path or not source.path:
        return
    path, test = (Path(one).resolve() for one in (source.path, source.test_path))
    if path == test:
        raise SettingError(
            f"source.test_path is source.path itself ({source.path}): the test rows would be the training"
            " rows; name another file, or leave source.test_path out: then split.test holds rows out"
        )
    plug_in = "." in source.kind  # which knows for itself what of its path it reads
    if test.is_relative_to(path) and not plug_in and _holds(source, path, test):
        raise SettingError(
            f"source.test_path: {source.test_path} lies in source.path, whose rows are the training rows;"
            " move it out of that folder, or name the training rows alone in source.path"
        )
    ours, theirs = (
        Counter(sha256 for name, sha256 in listing if name.startswith(f"{_TEST}/") == of_test)
        for of_test in (False, True)
    )
    if ours and ours == theirs:
        raise SettingError(
            f"source.test_path: {source.test_path} is a copy of {source.path}, byte for byte: the test"
            " rows would be the training rows; name another file, or leave source.test_path out"
        )


def _holds(source: Source, path: Path, test: Path) -> bool:
    """Whether the reader of the folder `path` reads `test` with it."""
    kind = source.kind or test.suffix.lower().removeprefix(".")
    flat = kind in _FLAT or test.suffix.lower().removeprefix(".") in (*_FLAT, "tsv", "ndjson")
    return test.parent == path and test.is_file() if flat else True
