"""Windows of a Parquet file: its columns keep their types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from retrainer.batch_prediction.columns import InputColumns
from retrainer.batch_prediction.windows import MOST_NAMED_FILES, MOST_ROWS, Window
from retrainer.data.sources.parquet import batches_of, open_parquet, plain_values


def row_count(file: Path) -> int:
    return int(open_parquet(file).metadata.num_rows)


def parquet_windows(file: Path, columns: InputColumns) -> Iterator[Window]:
    parquet = open_parquet(file)
    schema = parquet.schema_arrow
    found = columns.find_in_file(schema.names, file.name)
    kept = [one.name for one in schema if not _holds_bytes(one.type)]
    most = MOST_NAMED_FILES if columns.holds_files else MOST_ROWS
    first = 1
    for batch in batches_of(parquet, file, list(dict.fromkeys([*kept, *found.values()])), most):
        yield Window(
            [f"{file.name}:row {first + row}" for row in range(len(batch))],
            {ours: plain_values(batch.column(name), file, name) for ours, name in found.items()},
            pa.table(batch).select(kept),
            [""] * len(batch),
            file.parent,
        )
        first += len(batch)
    if first == 1:
        yield Window(kept=schema.empty_table().select(kept), folder=file.parent)


def _holds_bytes(kind: pa.DataType) -> bool:
    """Of images and sounds as encoded bytes, which no output repeats."""
    if pa.types.is_struct(kind):
        return any(_holds_bytes(kind.field(place).type) for place in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
