"""Ingestion: the source as it is today, in one form, with where each row came from.

Rows are only shaped here and none is judged, except that `source.classes` chooses among them. Light: the
first bytes are read before anything heavy could be imported.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import pyarrow as pa

from retrainer.errors import UserError, nearest
from retrainer.extend import builtin_names, load
from retrainer.formats.dataset import SCHEMA, write_dataset
from retrainer.formats.files import canonical_json, digest_of, sha256_file, write_text
from retrainer.settings import Source

SOURCES = "data/sources"
_KIND_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    **dict.fromkeys((".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz"), "image_folder"),
}
_CONTENT = ("text", "text_pair", "image")
# A file changed this recently could change again within one tick of its clock: hash it anew next time.
_UNSETTLED_SECONDS = 2.0
# A dataset is held in memory whole; this share of it is left to the rest.
_MEMORY_SHARE = 0.6


def choose_kind(source: Source) -> str:
    """`source.kind`, or the built-in reader that the path's suffix or folder asks for."""
    if source.kind:
        return source.kind
    if not source.path:
        known = ", ".join(builtin_names(SOURCES))
        raise UserError(f"source.path is empty; name a file, folder or archive, or set source.kind (known: {known})")
    name = PurePosixPath(source.path).name.lower()
    for suffix, kind in _KIND_BY_SUFFIX.items():
        if name.endswith(suffix):
            return kind
    if "://" in source.path:
        return "image_folder"
    folder = Path(source.path)
    if folder.is_dir():
        found = {_KIND_BY_SUFFIX[p.suffix.lower()] for p in folder.iterdir() if p.suffix.lower() in _KIND_BY_SUFFIX}
        tables = sorted(found - {"image_folder"})
        return tables[0] if len(tables) == 1 else "image_folder"
    state = "has a suffix that no source reads" if folder.exists() else "does not exist"
    raise UserError(f"source.path: {source.path} {state}; known: {', '.join(_KIND_BY_SUFFIX)}, or a folder of images")


def source_module(source: Source) -> ModuleType:
    """The reader's module. Raises UserError for a plug-in that lacks a function."""
    kind = choose_kind(source)
    module = load(SOURCES, kind, "source.kind")
    for name in ("files", "read"):
        if not callable(getattr(module, name, None)):
            raise UserError(f"source.kind: {kind} has no function {name}(source); a source needs files and read")
    return module


def source_digest(source: Source, cache: Path | None = None) -> str:
    """sha256 over the names and bytes of every file of the source, wherever it lies.

    `cache` is a JSON file of this source alone: a file whose path, size and times are as they were is not
    read again. Raises UserError when the source is not there.
    """
    return digest_of(_listing(source, source_module(source), cache))


def _listing(source: Source, module: ModuleType, cache: Path | None) -> list[list[str]]:
    known = _read_cache(cache)
    now = time.time()
    listing, settled = [], {}
    for path in module.files(source):
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
    try:
        known = json.loads(cache.read_text(encoding="utf-8")) if cache else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _name_in(source: Source, path: Path) -> str:
    """The file's name as seen from the source: no folder of this machine is in it."""
    for role, given in (("test_path", source.test_path), ("path", source.path)):
        root = Path(given)
        for base in (root, root.parent) if given else ():
            if path != base and path.absolute().is_relative_to(base.absolute()):
                return f"{role}/{path.absolute().relative_to(base.absolute()).as_posix()}"
    return path.name


def ingest(source: Source, out: Path) -> dict[str, Any]:
    """Reads the source and writes the raw dataset: splits `all` and, with an own test set, `given_test`.

    Rows without any of `source.classes` are dropped as "class not selected". Returns the manifest. Raises
    UserError naming setting, file or row, and when the bytes are no longer those that `resolve` saw.
    """
    module = source_module(source)
    listing = _listing(source, module, None)
    digest = digest_of(listing)
    if source.digest and digest != source.digest:
        raise UserError(f"source.path: {_title(source)} changed since the settings were resolved; run again")
    rows, dropped = _read(source, module)
    given = rows["given_test"].to_pylist()
    splits = {"all": rows.filter(pa.array([not test for test in given]))}
    if any(given) or source.test_path:
        splits["given_test"] = rows.filter(pa.array(given))
    _check_splits(splits, source)
    described = _describe(source, listing, Counter(given))
    return write_dataset(out, splits, dropped, extra={"source_digest": digest, "sources": described})


def _read(source: Source, module: ModuleType) -> tuple[pa.Table, pa.Table | None]:
    """Every row in our columns, and those that `source.classes` left out."""
    most = _MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    tables, left_out, size = [], [], 0
    seen: set[str] = set()
    for number, table in enumerate(module.read(source)):
        shaped = _in_our_columns(table, source, number)
        chosen = _chosen(shaped, set(source.classes), seen)
        keep = shaped if chosen is None else shaped.filter(chosen)
        if chosen is not None and len(keep) < len(shaped):
            left_out += shaped.filter(pa.compute.invert(chosen))["origin"].to_pylist()
        tables.append(_only_labels(keep, source.classes) if chosen is not None else keep)
        size += keep.nbytes
        if size > most:
            raise UserError(f"{_title(source)} does not fit into this machine's memory; give a part of it")
    if not tables or not any(len(table) for table in [*tables, left_out]):
        raise UserError(f"{_title(source)} has no rows")
    if unknown := sorted(set(source.classes) - seen):
        raise UserError(f"source.classes: no row has the class '{unknown[0]}'{nearest(unknown[0], seen)}")
    dropped = pa.table({"origin": left_out, "reason": ["class not selected"] * len(left_out)}) if left_out else None
    rows = pa.concat_tables(tables, promote_options="default")
    empty = [n for n in rows.column_names if n != "labels" and rows[n].null_count == len(rows)]
    return rows.drop_columns(empty) if len(rows) else rows, dropped


def _in_our_columns(table: pa.Table, source: Source, number: int) -> pa.Table:
    """What a reader (a plug-in's too) yields, in the types of SCHEMA."""
    if "labels" not in table.column_names or not set(_CONTENT) & set(table.column_names):
        raise UserError(f"source.kind {source.kind}: its tables need 'labels' and one of {', '.join(_CONTENT)}")
    if "given_test" not in table.column_names:
        table = table.append_column("given_test", pa.array([False] * len(table), pa.bool_()))
    if "origin" not in table.column_names:
        origins = [f"{choose_kind(source)}:table {number} row {row}" for row in range(1, len(table) + 1)]
        table = table.append_column("origin", pa.array(origins, pa.string()))
    names = [name for name in (*SCHEMA, "given_test") if name in table.column_names]
    wanted = pa.schema([(name, SCHEMA.get(name, pa.bool_())) for name in names])
    try:
        return table.select(names).cast(wanted)
    except (pa.ArrowException, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"source.kind {source.kind}: a column is not of the dataset's types ({reason})") from None


def _chosen(table: pa.Table, classes: set[str], seen: set[str]) -> pa.Array | None:
    """Which rows have one of `classes`; None when every class is wanted. Adds the labels to `seen`."""
    if not classes:
        return None
    wanted = []
    for labels in table["labels"].to_pylist():
        names = {label.strip() for label in labels or ()}
        seen |= names
        wanted.append(bool(names & classes))
    return pa.array(wanted, pa.bool_())


def _only_labels(table: pa.Table, classes: tuple[str, ...]) -> pa.Table:
    kept = [[label for label in labels if label.strip() in classes] for labels in table["labels"].to_pylist()]
    return table.set_column(table.column_names.index("labels"), "labels", pa.array(kept, SCHEMA["labels"]))


def _check_splits(splits: dict[str, pa.Table], source: Source) -> None:
    test = splits.get("given_test")
    if test is None:
        return
    if not len(test):
        raise UserError(f"source.test_path: {source.test_path} has no row to test on; give another file")
    for name in _CONTENT:
        if name in test.column_names and test[name].null_count == len(test) > splits["all"][name].null_count:
            setting = f"source.{name}"
            raise UserError(f"the test set has no '{getattr(source, name)}' ({setting}), which the training rows have")


def _title(source: Source) -> str:
    return source.path or choose_kind(source)


def _describe(source: Source, listing: list[list[str]], counts: Counter[bool]) -> list[dict[str, Any]]:
    """What the manifest says of each part of the source: its own name, sha256, files and rows."""

    def part(title: str, files: list[list[str]], rows: int) -> dict[str, Any]:
        sha256 = files[0][1] if len(files) == 1 else digest_of(files)
        return {"file": title, "files": len(files), "sha256": sha256, "rows": rows}

    if not source.path:
        return [part(listing[0][0] if len(listing) == 1 else choose_kind(source), listing, counts.total())]
    tests = [entry for entry in listing if entry[0].startswith("test_path/")]
    others = [entry for entry in listing if not entry[0].startswith("test_path/")]
    if not source.test_path:
        return [part(Path(source.path).name, others, counts.total())]
    first = part(Path(source.path).name, others, counts[False])
    return [first, {**part(Path(source.test_path).name, tests, counts[True]), "given_test": True}]


def read_source(source: Source) -> Iterator[pa.Table]:
    """The tables of a source as its reader yields them, for those who want a look before a run."""
    return iter(source_module(source).read(source))
