"""Ingestion: the source as it is today, in one form, with where each row came from.

Rows are only shaped here and none is judged, except that `source.classes` chooses among them. Light: the
first bytes are read before anything heavy could be imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from retrainer.data.fingerprint import Listing, choose_kind, listing_of, source_module
from retrainer.data.memory import budget_bytes
from retrainer.data.same_files import refuse_same_files
from retrainer.data.sources._columns import name_of, needed_columns, source_names, words_of
from retrainer.errors import DataError, SettingError, nearest
from retrainer.formats.columns import TYPES
from retrainer.formats.dataset import (
    LABELS,
    LABELS_ADD_UP,
    SOURCE_NAMES,
    About,
    ordered,
    write_dataset,
)
from retrainer.formats.files import digest_of
from retrainer.formats.names import RAW_SPLITS
from retrainer.messages import logger
from retrainer.settings import Source

_CONTENT = ("text", "text_pair", "image")
_ALL, *_GIVEN = RAW_SPLITS


@dataclass
class _Rows:
    """What came in so far: tables by raw split, how many rows were read of each, the origins of those left
    out, and the labels that were seen."""

    splits: dict[str, list[pa.Table]] = field(default_factory=lambda: {name: [] for name in RAW_SPLITS})
    left_out: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    read: Counter[str] = field(default_factory=Counter)
    size_bytes: int = 0


def ingest(source: Source, out: Path) -> dict[str, Any]:
    """Reads the source and writes the raw dataset: split `all` and, with an own test or validation set,
    `given_test` and `given_validation`.

    Rows without any of `source.classes` are dropped as "class not selected". Returns the manifest. Raises
    UserError naming setting, file or row, and when the bytes are no longer those that `resolve` saw.
    """
    listing = listing_of(source)
    digest = digest_of(listing)
    if source.digest and digest != source.digest:
        raise SettingError(
            f"source.path: {_title(source)} changed since the settings were resolved; run again"
        )
    refuse_same_files(source, listing)
    rows = _read(source)
    splits = {name: tables for name, tables in rows.splits.items() if tables or name == _ALL}
    tables = _whole_splits(splits, source)
    _check_splits(tables, rows, source)
    _tell_splits(tables, source)
    reasons = ["class not selected"] * len(rows.left_out)
    dropped = pa.table(
        {"origin": pa.array(rows.left_out, pa.string()), "reason": pa.array(reasons, pa.string())}
    )
    described: dict[str, Any] = {"source_digest": digest, "sources": _describe(source, listing, rows)}
    if getattr(source_module(source), "labels_add_up", lambda _: False)(source):
        described[LABELS_ADD_UP] = True
    if names := source_names(source, tables[_ALL].column_names):
        described[SOURCE_NAMES] = names
    return write_dataset(out, tables, About(dropped, words_of(source), extra=described))


def _read(source: Source) -> _Rows:
    rows = _Rows()
    most = budget_bytes()
    for table in _shaped(source):
        rows.read.update(_split_names(table))
        if source.classes:
            table = _only_classes(table, set(source.classes), rows)
        names = pa.array(_split_names(table), pa.string())
        for name, parts in rows.splits.items():
            part = table.filter(pc.equal(names, name)).drop_columns(_GIVEN)
            parts += [part] if len(part) else []
            rows.size_bytes += part.nbytes
        if rows.size_bytes > most:
            raise DataError(f"{_title(source)} does not fit into this machine's memory; give a part of it")
    return rows


def _split_names(table: pa.Table) -> list[str]:
    """The raw split of each row; one that is given both to test and to validate on is tested."""
    given = zip(*(table[name].to_pylist() for name in _GIVEN), strict=True)
    return [_GIVEN[0] if test else _GIVEN[1] if validation else _ALL for test, validation in given]


def _shaped(source: Source) -> Iterator[pa.Table]:
    """What the reader (a plug-in's too) yields, in the columns' types, with `given_test` and
    `given_validation`."""
    kind, types = choose_kind(source), _types(source)
    before = 0
    for table in source_module(source).read(source):
        table = _with_groups(table, source)
        _require_columns(table, source, kind)
        for name in set(_GIVEN) - set(table.column_names):
            table = table.append_column(name, pa.array([False] * len(table), pa.bool_()))
        if "origin" not in table.column_names:
            origins = [f"{kind}:row {row}" for row in range(before + 1, before + len(table) + 1)]
            table = table.append_column("origin", pa.array(origins, pa.string()))
        if source.metadata and "metadata" not in table.column_names:
            raise SettingError(f"source.metadata: {kind} has no further columns to keep; leave it empty")
        before += len(table)
        names = [*(name for name in types if name in table.column_names), *_GIVEN]
        try:
            yield table.select(names).cast(pa.schema([(name, types.get(name, pa.bool_())) for name in names]))
        except (pa.ArrowException, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise SettingError(
                f"source.kind: a table of {kind} is not of the dataset's types ({reason})"
            ) from None


def _with_groups(table: pa.Table, source: Source) -> pa.Table:
    """Where the task tells groups apart (speakers, faces), a folder's name is its rows' group, no class."""
    there = table.column_names
    if "group" not in source.columns or "group" in there or LABELS not in there:
        return table
    names = [labels[0] if labels else None for labels in table[LABELS].to_pylist()]
    return table.drop_columns([LABELS]).append_column("group", pa.array(names, pa.string()))


def _types(source: Source) -> dict[str, pa.DataType]:
    """Column → its type, of all that may be kept, in the order of the dataset's columns."""
    words = words_of(source) | {"metadata": "string", "origin": "string"}
    return {name: TYPES[words[name]] for name in ordered(words)}


def _require_columns(table: pa.Table, source: Source, kind: str) -> None:
    lacking = sorted(set(needed_columns(source)) - set(table.column_names))
    if lacking and source.columns:
        raise SettingError(f"source.kind: a table of {kind} has no '{lacking[0]}', which the task needs")
    if lacking or (not source.columns and not set(_CONTENT) & set(table.column_names)):
        raise SettingError(
            f"source.kind: a table of {kind} has no 'labels', or none of {', '.join(_CONTENT)}"
        )
    if source.classes and LABELS not in table.column_names:
        raise SettingError("source.classes chooses among labels, and the task reads none; leave it empty")


def _only_classes(table: pa.Table, classes: set[str], rows: _Rows) -> pa.Table:
    """Rows that have one of `classes`, and of their labels only those; the others are noted in `rows`."""
    kept, wanted = [], []
    for labels, origin in zip(table["labels"].to_pylist(), table["origin"].to_pylist(), strict=True):
        rows.labels.update(label.strip() for label in labels or ())
        chosen = [label for label in labels or () if label.strip() in classes]
        wanted.append(bool(chosen))
        if chosen:
            kept.append(chosen)
        else:
            rows.left_out.append(origin)
    place = table.column_names.index("labels")
    return table.filter(pa.array(wanted, pa.bool_())).set_column(
        place, "labels", pa.array(kept, TYPES["strings"])
    )


def _whole_splits(splits: dict[str, list[pa.Table]], source: Source) -> dict[str, pa.Table]:
    """One table per split, with the same columns; one that is empty in every split stays if it is needed."""
    types, needed = _types(source), {LABELS, *source.columns}
    names = [n for n in types if any(n in t.column_names for parts in splits.values() for t in parts)]
    everything = pa.schema([(name, types[name]) for name in names])
    tables = {
        split: pa.concat_tables([everything.empty_table(), *parts], promote_options="default")
        for split, parts in splits.items()
    }
    empty = [n for n in names if n not in needed and all(t[n].null_count == len(t) for t in tables.values())]
    return {split: table.drop_columns(empty) for split, table in tables.items()}


def _check_splits(tables: dict[str, pa.Table], rows: _Rows, source: Source) -> None:
    if unknown := sorted(set(source.classes) - rows.labels):
        raise SettingError(
            f"source.classes: no row has the class '{unknown[0]}'{nearest(unknown[0], rows.labels)}"
        )
    training, testing = tables["all"], tables.get("given_test")
    if not len(training):
        raise SettingError(f"source.path: {_title(source)} has no rows to train on")
    if testing is None:
        if source.test_path:
            raise SettingError(f"source.test_path: {source.test_path} has no rows to test on")
        return
    for name in source.columns or _CONTENT:
        if name in testing.column_names and testing[name].null_count == len(testing):
            raise SettingError(
                f"source.test_path: the test set has no {name} where the training rows have one; "
                f"add the column '{name_of(source, name)}' to it, or leave it out of both (source.{name})"
            )


def _tell_splits(tables: dict[str, pa.Table], source: Source) -> None:
    """Says which rows the source itself holds out, as by folders test/ and val/."""
    words = {"given_test": "test", "given_validation": "validation"}
    held_out = [
        f"{len(tables[name]):,} to your own {word} set" for name, word in words.items() if name in tables
    ]
    if held_out:
        rows = f"{_title(source)}: {len(tables[_ALL]):,} rows belong to training"
        logger("ingest").info("%s, %s", rows, ", ".join(held_out))


def _title(source: Source) -> str:
    return source.path or choose_kind(source)


def _describe(source: Source, listing: Listing, rows: _Rows) -> list[dict[str, Any]]:
    """What the manifest says of each part of the source: its own name, sha256, files and rows read."""

    def part(title: str, files: Listing, count: int) -> dict[str, Any]:
        sha256 = files[0][1] if len(files) == 1 else digest_of(files)
        return {"file": title, "files": len(files), "sha256": sha256, "rows": count}

    if not source.test_path:
        return [part(Path(_title(source)).name, listing, rows.read.total())]
    tests = [entry for entry in listing if entry[0].startswith("test_path/")]
    others = [entry for entry in listing if not entry[0].startswith("test_path/")]
    tested = rows.read[_GIVEN[0]]
    own_test = part(Path(source.test_path).name, tests, tested)
    others_read = rows.read.total() - tested
    return [part(Path(source.path).name, others, others_read), {**own_test, "given_test": True}]
