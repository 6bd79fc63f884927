"""Preprocessing: the raw dataset checked, without twins, and split. Every row that goes in is accounted for.

A row comes out in train, validation or test, or stands in `dropped.parquet` with its origin and one reason:
    class not selected          (by ingest) none of `source.classes`
    empty text, empty text pair, no image, not an image, broken image, image too large, missing label
    also in the test set        the same content or group as a row of the user's own test set
    duplicate                   the same content and labels as another row, which stays
    conflicting labels          the same content as another row with other labels; none of them stays
    over split.train_per_class, over split.validation_per_class, over split.limit
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retrainer.data.checks import check_one_label, clean_labels, unusable
from retrainer.data.splits import (
    TEST,
    TRAIN,
    VALIDATION,
    Rows,
    choose,
    components,
    content_keys,
    drop_twins,
    place,
)
from retrainer.errors import UserError
from retrainer.formats.dataset import IMAGE, RAW_SPLITS, SCHEMA, SPLITS, Dataset, row_digest, write_dataset
from retrainer.settings import Split, Task

_CONTENT = ("text", "text_pair", "image")
# What a built-in task reads; a plug-in's task reads all that the data has.
_COLUMNS = {"text_classification": ("text", "text_pair"), "image_classification": ("image",)}
_OTHER = ("labels", "group", "time", "id", "origin")
_IMAGES_PER_PIECE = 100
# One component with more than this share of the rows makes the shares of the splits a matter of luck.
_LARGE_COMPONENT = 0.2
_DROPPED = pa.schema([("origin", pa.string()), ("reason", pa.string())])


def preprocess(raw: Path, out: Path, split: Split, task: Task) -> dict[str, Any]:
    """Checks and splits a raw dataset and returns the manifest of the new one.

    Rows are ordered by hash, so neither the order of the source nor of its files matters. The manifest's
    `warnings` name what is allowed but hardly meant. Raises UserError naming the row or the setting.
    """
    source = Dataset(raw)
    table, given_test = _all_rows(source)
    columns = content_columns(task, table.column_names)
    table = _with_clean_labels(table, columns, task.multi_label)
    reasons = unusable(table, columns, table["labels"].to_pylist(), task.multi_label)
    before, bad = _dropped_by_ingest(source), _dropped(table, reasons)
    sound = [row for row, reason in enumerate(reasons) if reason is None]
    table = take_rows(table, sound)

    rows = _rows_of(table, columns, [given_test[row] for row in sound])
    drop_twins(rows, lambda row: row_digest(table.slice(row, 1).to_pylist()[0]))
    placed = choose(rows, place(rows, split), split)
    dropped = pa.concat_tables([before, bad, _dropped(table, rows.reasons)])
    assert len(reasons) + len(before) == sum(map(len, placed.values())) + len(dropped), "a row was lost"
    _check_splits(rows, placed, dropped, task)
    extra = {
        "raw_content_sha256": source.content_sha256,
        "sources": source.manifest.get("sources", []),
        "warnings": _warnings(rows, placed),
    }
    return write_dataset(out, {name: take_rows(table, placed[name]) for name in SPLITS}, dropped, extra)


def content_columns(task: Task, present: Sequence[str]) -> tuple[str, ...]:
    """The columns of the data that the task reads. Raises UserError when the one it must have is absent."""
    there = [name for name in _CONTENT if name in present]
    if task.kind not in _COLUMNS:
        return tuple(there)
    wanted = _COLUMNS[task.kind]
    if wanted[0] not in there:
        raise UserError(
            f"task.kind {task.kind} reads the column '{wanted[0]}', and the source has "
            f"{' and '.join(there) or 'none'}; set source.{wanted[0]} or another task.kind"
        )
    return tuple(name for name in wanted if name in there)


def _all_rows(source: Dataset) -> tuple[pa.Table, list[bool]]:
    parts = {name: source.split(name) for name in RAW_SPLITS if name in source.manifest["rows"]}
    return pa.concat_tables(parts.values()), [
        n == "given_test" for n, part in parts.items() for _ in range(len(part))
    ]


def _with_clean_labels(table: pa.Table, columns: Sequence[str], multi_label: bool) -> pa.Table:
    labels = clean_labels(table["labels"].to_pylist())
    if not multi_label:
        check_one_label(labels, table["origin"].to_pylist())
    table = table.select([name for name in table.column_names if name in (*columns, *_OTHER)])
    return table.set_column(table.column_names.index("labels"), "labels", pa.array(labels, SCHEMA["labels"]))


def _rows_of(table: pa.Table, columns: Sequence[str], given_test: list[bool]) -> Rows:
    keys = content_keys(table, columns)
    groups = table["group"].to_pylist() if "group" in table.column_names else [None] * len(table)
    labels = [tuple(row or ()) for row in table["labels"].to_pylist()]
    return Rows(keys, components(keys, groups), labels, given_test, [None] * len(table))


def take_rows(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    """The rows at these places, in this order."""
    places = pa.array(rows, pa.int64())
    if "image" not in table.column_names:
        return table.take(places)
    # `take` joins all chunks, and an array of bytes ends at 2 GiB: join as large_binary, cast in pieces.
    wide = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
    images = table["image"].cast(wide).combine_chunks()
    starts = range(0, len(rows), _IMAGES_PER_PIECE)
    pieces = [images.take(places.slice(start, _IMAGES_PER_PIECE)).cast(IMAGE) for start in starts]
    others = table.drop_columns(["image"]).take(places)
    return others.append_column("image", pa.chunked_array(pieces, IMAGE))


def _dropped(table: pa.Table, reasons: Sequence[str | None]) -> pa.Table:
    left_out = [row for row, reason in enumerate(reasons) if reason is not None]
    origins = table["origin"].take(pa.array(left_out, pa.int64()))
    return pa.table([origins, pa.array([reasons[row] for row in left_out], pa.string())], schema=_DROPPED)


def _dropped_by_ingest(source: Dataset) -> pa.Table:
    path = source.path / "dropped.parquet"
    return pq.read_table(path).cast(_DROPPED) if path.is_file() else _DROPPED.empty_table()


def _check_splits(rows: Rows, placed: dict[str, list[int]], dropped: pa.Table, task: Task) -> None:
    reasons = Counter(dropped["reason"].to_pylist()).most_common()
    lost = "; dropped: " + ", ".join(f"{count} {reason}" for reason, count in reasons) if reasons else ""
    total = len(rows.keys)
    if not placed[TEST]:
        raise UserError(
            f"no row of {total} is left to test on{lost}; raise split.test or give source.test_path"
        )
    if not placed[TRAIN]:
        raise UserError(f"no row of {total} is left to train on{lost}; lower split.test or split.validation")
    classes = _classes(rows, placed[TRAIN])
    if len(classes) < (1 if task.multi_label else 2):
        named = f"only the class '{classes.pop()}'" if classes else "no class"
        raise UserError(
            f"the training rows have {named}{lost}; check source.label and source.classes, or add rows"
        )


def _classes(rows: Rows, members: Sequence[int]) -> set[str]:
    return {name for row in members for name in rows.labels[row]}


def _warnings(rows: Rows, placed: dict[str, list[int]]) -> list[str]:
    said = []
    known = _classes(rows, placed[TRAIN])
    for name in (VALIDATION, TEST):
        unseen = sorted(_classes(rows, placed[name]) - known)
        if unseen:
            said.append(f"{name} has classes that train never sees: {', '.join(unseen)}")
    if not placed[VALIDATION]:
        said.append("no row is left for the validation: no epoch can be chosen by it (split.validation)")
    by_spelling = Counter(name.casefold() for name in known)
    alike = sorted(name for name in known if by_spelling[name.casefold()] > 1)
    if alike:
        said.append(f"classes that differ only in case: {', '.join(alike)}")
    kept = [row for members in placed.values() for row in members]
    largest = Counter(rows.components[row] for row in kept).most_common(1)[0][1]
    if largest > max(1, _LARGE_COMPONENT * len(kept)):
        said.append(
            f"{largest} of {len(kept)} rows are linked by groups or equal content and share one split"
        )
    return said
