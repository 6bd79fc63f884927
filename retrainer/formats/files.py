"""Whole or not at all: directories that appear by one rename, and the sha256 manifest that seals them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrainer.errors import DataError

MANIFEST = "manifest.json"


def canonical_json(value: Any) -> bytes:
    """One spelling per value: sorted keys, no spaces, no NaN; what every digest is taken over."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_of(value: Any) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def kind_of(directory: Path) -> str:
    """What the directory's manifest says it is, `dataset` for example; empty where it says nothing."""
    try:
        return str(json.loads((directory / MANIFEST).read_text(encoding="utf-8"))["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def content_digest(directory: Path) -> str:
    """The digest of a dataset's or a model's content, from its manifest. Raises UserError without one."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        return str(manifest["model_sha256" if "model_sha256" in manifest else "content_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{directory}: no {MANIFEST} with a digest of its content; make it again") from None


def write_json(path: Path, value: Any) -> None:
    """Readable JSON, written aside and renamed."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Whole or not at all: written aside and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yields a directory beside `path`; renames it to `path` when the block ends without an error.

    What stood at `path` stays until the new directory is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
        if path.exists():
            path.rename(replaced)
        aside.rename(path)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def hash_files(directory: Path, leave_out: tuple[str, ...] = (MANIFEST,)) -> dict[str, str]:
    """sha256 per file, by its path inside `directory`."""
    return {
        path.relative_to(directory).as_posix(): sha256_file(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.relative_to(directory).as_posix() not in leave_out
    }


def read_manifest(directory: Path, kind: str, *versions: int) -> dict[str, Any]:
    """The manifest of a sealed directory, after every file's hash was checked.

    Raises UserError as `stated_manifest`, and when a file is altered.
    """
    manifest = stated_manifest(directory, kind, *versions)
    verify_files(directory, manifest.get("files", {}))
    return manifest


def stated_manifest(directory: Path, kind: str, *versions: int) -> dict[str, Any]:
    """The manifest alone: none of the directory's other files is opened.

    Raises UserError when it is absent, or of another kind or format version.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise DataError(f"{directory} is not a {kind} directory: {MANIFEST} is missing")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} was altered: it is no JSON ({error}); make the step again") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files", {}), dict):
        raise DataError(f"{path} was altered: it is no manifest; make the step again")
    if manifest.get("kind") != kind:
        raise DataError(f"{directory} holds a {manifest.get('kind')!r}, not a {kind!r}")
    if manifest.get("format_version") not in versions:
        raise DataError(
            f"{directory} has {kind} format {manifest.get('format_version')}, this version reads"
            f" {', '.join(map(str, versions))}; "
            f"read it with retrainer {manifest.get('retrainer', '?')}, which wrote it"
        )
    return manifest


def verify_files(directory: Path, expected: dict[str, str]) -> None:
    found = hash_files(directory)
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            state = (
                "is missing"
                if name not in found
                else "was altered"
                if name in expected
                else "does not belong"
            )
            raise DataError(
                f"{directory / name} {state}: its sha256 does not match {MANIFEST}; make the step again"
            )
