"""Tables of rows in memory: taken apart, put together, described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retrainer.formats.columns import ENCODED, encoded_columns
from retrainer.formats.dataset import Dataset, types_of
from retrainer.formats.names import RAW_SPLITS

_FILES_PER_PIECE = 100
_DROPPED = pa.schema([("origin", pa.string()), ("reason", pa.string())])
_TYPES = {
    "string": "text",
    "strings": "list of words",
    "number": "number",
    "numbers": "list of numbers",
    "image": "encoded image",
    "audio": "encoded audio",
    "boxes": "boxes in an image",
    "mask": "a class for each pixel",
}


def all_rows(source: Dataset) -> tuple[pa.Table, list[str]]:
    """Every row of a raw dataset, and the name of its split there: one of RAW_SPLITS."""
    parts = {name: source.split(name) for name in RAW_SPLITS if name in source.manifest["rows"]}
    return pa.concat_tables(parts.values()), [name for name, part in parts.items() for _ in range(len(part))]


def schema_of(table: pa.Table, known: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Column → its type in a word and the share of rows without a value."""
    rows = max(1, len(table))
    return {
        name: {"type": _TYPES[word], "absent": round(table[name].null_count / rows, 6)}
        for name, word in types_of(table, known).items()
    }


def take_rows(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    """The rows at these places, in this order."""
    places = pa.array(rows, pa.int64())
    encoded = encoded_columns(table.schema)
    taken = table.drop_columns(encoded).take(places)
    if encoded and not taken.num_columns:
        return pa.table({name: take_encoded(table[name], rows) for name in encoded})
    for name in encoded:
        taken = taken.append_column(name, take_encoded(table[name], rows))
    return taken


def take_encoded(files: pa.ChunkedArray, rows: Sequence[int]) -> pa.ChunkedArray:
    """The images or sounds at these places, in this order."""
    # `take` joins all chunks, and an array of bytes ends at 2 GiB: join as large_binary, cast in pieces.
    whole = files.cast(pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])).combine_chunks()
    places = pa.array(rows, pa.int64())
    starts = range(0, len(rows), _FILES_PER_PIECE)
    return pa.chunked_array(
        [whole.take(places.slice(start, _FILES_PER_PIECE)).cast(ENCODED) for start in starts], ENCODED
    )


def dropped_rows(table: pa.Table, reasons: Sequence[str | None]) -> pa.Table:
    """Origin and reason of every row that has a reason."""
    left_out = [row for row, reason in enumerate(reasons) if reason is not None]
    origins = table["origin"].take(pa.array(left_out, pa.int64()))
    return pa.table([origins, pa.array([reasons[row] for row in left_out], pa.string())], schema=_DROPPED)


def dropped_by_ingest(source: Dataset) -> pa.Table:
    path = source.path / "dropped.parquet"
    return pq.read_table(path).cast(_DROPPED) if path.is_file() else _DROPPED.empty_table()
