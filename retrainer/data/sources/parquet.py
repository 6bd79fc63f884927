"""Parquet files, with those that Hugging Face `datasets` writes: encoded images, named class labels.

Row 1 is the first row of the file. `path` may also be a folder of such files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retrainer.data.sources._columns import (
    FILES_PER_CHUNK,
    ROWS_PER_CHUNK,
    Chunk,
    encoded_names,
    files_with_media,
    pick_columns,
    read_tables,
    rows_per_chunk,
    words_of,
)
from retrainer.errors import DataError, UserError
from retrainer.settings import Source

SUFFIXES = (".parquet",)


def files(source: Source) -> list[Path]:
    """The Parquet files and the images they name. Raises UserError for a column that is missing."""
    return files_with_media(source, SUFFIXES, _file_names)


def read(source: Source) -> Iterator[pa.Table]:
    """Tables in our columns. Raises UserError naming the file for what cannot be parsed."""
    return read_tables(source, SUFFIXES, _chunks)


def first_rows(file: Path, most: int) -> tuple[dict[str, list[Any]], int]:
    """Every column with its values in the first rows, and how many rows there are; UserError as `read`.

    Of columns that hold whole files only few rows are read.
    """
    parquet = open_parquet(file)
    schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    heavy = any(pa.types.is_struct(kind) or pa.types.is_binary(kind) for kind in schema.types)
    batch = next(batches_of(parquet, file, schema.names, FILES_PER_CHUNK if heavy else most), None)
    values = {} if batch is None else {n: plain_values(batch.column(n), file, n) for n in schema.names}
    named = {name: _class_names(schema, name) for name in values}
    return {
        n: [_named(v, named[n]) for v in column] if named[n] else column for n, column in values.items()
    }, rows


def _file_names(file: Path, source: Source) -> Iterator[tuple[str, str]]:
    parquet = open_parquet(file)
    schema = parquet.schema_arrow
    chosen = pick_columns(source, schema.names, file.name)
    for ours in encoded_names(source):
        if ours not in chosen or not _is_text(schema.field(chosen[ours]).type):
            continue
        for batch in batches_of(parquet, file, [chosen[ours]], ROWS_PER_CHUNK):
            yield from ((ours, name) for name in batch.column(0).to_pylist() if name)


def _chunks(file: Path, source: Source) -> Iterator[Chunk]:
    parquet = open_parquet(file)
    chosen = pick_columns(source, parquet.schema_arrow.names, file.name)
    lists = [ours for ours, word in words_of(source).items() if word == "strings" and ours in chosen]
    class_names = {ours: _class_names(parquet.schema_arrow, chosen[ours]) for ours in lists}
    most = rows_per_chunk(source, chosen)
    first = 1
    for batch in batches_of(parquet, file, sorted(set(chosen.values())), most):
        values = {ours: plain_values(batch.column(name), file, name) for ours, name in chosen.items()}
        for ours, names in class_names.items():
            if names:
                values[ours] = [_named(value, names) for value in values[ours]]
        yield range(first, first + len(batch)), values
        first += len(batch)


def open_parquet(file: Path) -> pq.ParquetFile:
    """Raises UserError for what is no Parquet file."""
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError, ValueError) as error:  # a name that is no UTF-8 is a ValueError
        raise _broken(file, error) from None


def batches_of(
    parquet: pq.ParquetFile, file: Path, columns: list[str], most: int
) -> Iterator[pa.RecordBatch]:
    """These columns, at most so many rows at a time. Raises UserError where the file is not whole."""
    try:
        yield from parquet.iter_batches(batch_size=most, columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:  # a name that is no UTF-8 is a ValueError
        raise _broken(file, error) from None


def _broken(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return DataError(f"{file.name} is not a whole Parquet file ({reason}); write or copy it again")


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)


def plain_values(column: pa.Array, file: Path, name: str) -> list[Any]:
    """The column's values as Python's own; times and decimals as text."""
    try:
        # Times and decimals have one spelling in Arrow; as Python objects, nanoseconds would want pandas.
        if pa.types.is_temporal(column.type) or pa.types.is_decimal(column.type):
            column = column.cast(pa.string())
        return list(column.to_pylist())
    except (pa.ArrowException, ValueError, OverflowError) as error:  # text that is no UTF-8 is a ValueError
        raise DataError(f"{file.name}: column '{name}' cannot be read ({error}); write it again") from None


def _class_names(schema: pa.Schema, label: str) -> list[str]:
    """Names of a Hugging Face ClassLabel column, which stores places in this list; else empty."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        inner = feature.get("feature", feature)
        return [str(name) for name in inner["names"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def _named(value: Any, names: list[str]) -> Any:
    """Places in `names` as the names; -1 is the library's word for 'no label'."""
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    return value
