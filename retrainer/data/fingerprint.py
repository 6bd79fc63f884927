"""Which reader a source has, and one sha256 for all its bytes: what `resolve` wants to know, cheaply."""

from __future__ import annotations

import json
import time
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from retrainer.errors import SettingError
from retrainer.extend import builtin_names, load
from retrainer.formats.files import canonical_json, digest_of, kind_of, sha256_file, write_text
from retrainer.settings import Source

SOURCES = "data/sources"
_KIND_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    **dict.fromkeys((".conll", ".conllu", ".bio", ".iob", ".iob2"), "conll"),
    **dict.fromkeys((".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz"), "image_folder"),
}
# A file changed this recently could change again within one tick of its clock: hash it anew next time.
_UNSETTLED_SECONDS = 2.0

# Name inside the source, sha256.
Listing = list[list[str]]


def choose_kind(source: Source) -> str:
    """`source.kind`, or the built-in reader that the path's suffix or folder asks for."""
    if "." in source.kind:
        return source.kind  # a plug-in knows for itself what its path means
    for setting, path in (("path", source.path), ("test_path", source.test_path)):
        if "://" in path and not path.startswith("s3://"):
            scheme = path.partition("://")[0]
            raise SettingError(
                f"source.{setting}: {scheme}:// addresses are not read; download it, or put it in s3://"
            )
    if source.kind:
        return source.kind
    if not source.path:
        known = ", ".join(builtin_names(SOURCES))
        raise SettingError(
            f"source.path is empty; name a file, folder or archive, or set source.kind (known: {known})"
        )
    if kind := _kind_of(source.path):
        return kind
    folder = Path(source.path)
    if folder.is_dir():
        if kind_of(folder) == "dataset":
            return "dataset"
        tables = {_kind_of(path.name) for path in folder.iterdir()} - {"", "image_folder"}
        return tables.pop() if len(tables) == 1 else "image_folder"
    if "://" in source.path:
        return "image_folder"
    state = "has a suffix that no source reads" if folder.exists() else "does not exist"
    raise SettingError(
        f"source.path: {source.path} {state}; known: {', '.join(_KIND_BY_SUFFIX)}, or a folder of images"
    )


def _kind_of(path: str) -> str:
    name = PurePosixPath(path).name.lower()
    return next((kind for suffix, kind in _KIND_BY_SUFFIX.items() if name.endswith(suffix)), "")


def source_module(source: Source) -> ModuleType:
    """The reader's module. Raises UserError for a plug-in that lacks a function."""
    kind = choose_kind(source)
    module = load(SOURCES, kind, "source.kind")
    for name in ("files", "read"):
        if not callable(getattr(module, name, None)):
            raise SettingError(
                f"source.kind: {kind} has no function {name}(source); a source needs files and read"
            )
    return module


def source_digest(source: Source, cache: Path | None = None) -> str:
    """sha256 over the names and bytes of every file of the source, wherever it lies.

    `cache` is a JSON file of this source alone: a file whose path, size and times are as they were is not
    read again. Raises UserError when the source is not there.
    """
    return digest_of(listing_of(source, cache))


def listing_of(source: Source, cache: Path | None = None) -> Listing:
    """Name and sha256 of every file, sorted; names as the source sees them, so no machine's path is in it.

    Raises UserError for a file that is not there, or cannot be read.
    """
    try:
        return _listing_of(source, cache)
    except OSError as error:
        raise SettingError(
            f"source.path: {error.filename or source.path} cannot be read ({error.strerror or error}); "
            "check its rights and the disk"
        ) from None


def _listing_of(source: Source, cache: Path | None) -> Listing:
    known = _read_cache(cache)
    now = time.time()
    listing: Listing = []
    settled: dict[str, Any] = {}
    for path in source_module(source).files(source):
        status = path.stat()
        key = str(path.absolute())
        # The time of the last change of state also moves when an edit puts the old modification time back.
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        entry = known.get(key)
        sha256 = entry[1] if entry and entry[0] == stamp else sha256_file(path)
        if now - max(status.st_mtime, status.st_ctime) > _UNSETTLED_SECONDS:
            settled[key] = [stamp, sha256]
        listing.append([_name_in(source, path), sha256])
    if cache is not None and settled != known:
        write_text(cache, canonical_json(settled).decode())
    return sorted(listing)


def _read_cache(cache: Path | None) -> dict[str, Any]:
    """What was known; nothing, when the file is absent or was damaged."""
    try:
        known = json.loads(cache.read_text(encoding="utf-8")) if cache else {}
    except (OSError, ValueError):
        return {}
    sound = isinstance(known, dict) and all(isinstance(e, list) and len(e) == 2 for e in known.values())
    return known if sound else {}


def _name_in(source: Source, path: Path) -> str:
    """`path/…` or `test_path/…` with the file's place inside that; images lie beside their table."""
    roots = {
        role: Path(root) for role, root in (("test_path", source.test_path), ("path", source.path)) if root
    }
    bases = [(role, root, root.name) for role, root in roots.items()]
    bases += [(role, root.parent, "") for role, root in reversed(roots.items())]
    for role, base, name in bases:
        # A reader may hand out paths whose links are followed, as for images named in a table.
        for seen, root in ((path.absolute(), base.absolute()), (path.resolve(), base.resolve())):
            if seen.is_relative_to(root):
                return f"{role}/{name if seen == root else seen.relative_to(root).as_posix()}"
    return path.name
