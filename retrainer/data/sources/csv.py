"""CSV (.csv) and tab-separated (.tsv) files in UTF-8 with a header; newlines inside quotes are text.

Row 1 is the first record below the header. `path` may also be a folder of such files.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from retrainer.data.sources._columns import (
    MAX_TEXT_CHARACTERS,
    Chunk,
    encoded_names,
    files_with_media,
    pick_columns,
    read_tables,
    rows_per_chunk,
)
from retrainer.errors import DataError
from retrainer.settings import Source

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".tsv")


def files(source: Source) -> list[Path]:
    """The CSV files and the images they name. Raises UserError for a column that is missing."""
    return files_with_media(source, SUFFIXES, _file_names)


def read(source: Source) -> Iterator[pa.Table]:
    """Tables in our columns. Raises UserError naming file and row for what cannot be parsed."""
    return read_tables(source, SUFFIXES, _chunks)


def first_rows(file: Path, most: int) -> tuple[dict[str, list[Any]], int]:
    """Every column with its values in the first rows, and how many rows there are; UserError as `read`."""
    records = records_of(file)
    header = header_of(records, file)
    kept: list[list[str]] = []
    rows = 0
    for rows, record in enumerate(records, start=1):
        if rows <= most:
            kept.append(_checked(record, header, file, rows))
    return {name: [record[place] for record in kept] for place, name in enumerate(header)}, rows


def _file_names(file: Path, source: Source) -> Iterator[tuple[str, str]]:
    for _, values in _chunks(file, source):
        columns = [ours for ours in encoded_names(source) if ours in values]
        if not columns:
            return
        yield from ((ours, name) for ours in columns for name in values[ours] if name)


def _chunks(file: Path, source: Source) -> Iterator[Chunk]:
    records = records_of(file)
    header = header_of(records, file)
    chosen = pick_columns(source, header, file.name)
    places = {ours: header.index(name) for ours, name in chosen.items()}
    most = rows_per_chunk(source, chosen)
    numbers: list[int] = []
    values: dict[str, list[str]] = {ours: [] for ours in chosen}
    for number, record in enumerate(records, start=1):
        _checked(record, header, file, number)
        numbers.append(number)
        for ours, place in places.items():
            values[ours].append(record[place])
        if len(numbers) == most:
            yield numbers, values
            numbers, values = [], {ours: [] for ours in chosen}
    if numbers:
        yield numbers, values


def _checked(record: list[str], header: list[str], file: Path, number: int) -> list[str]:
    if len(record) != len(header):
        raise DataError(f"{file.name}:row {number}: {uneven(record, header)}")
    return record


def header_of(records: Iterator[list[str]], file: Path) -> list[str]:
    """The names of the columns, which the first record holds. Raises UserError where they name nothing."""
    header = [name.strip() for name in next(records, [])]
    if not header:
        raise DataError(f"{file.name} is empty; its first line must name the columns")
    if twice := [name for place, name in enumerate(header) if name and name in header[:place]]:
        raise DataError(f"{file.name}: two columns are named '{twice[0]}'; rename one of them")
    return header


def uneven(record: list[str], header: list[str]) -> str:
    """What is wrong with a record that has not as many fields as the header."""
    return (
        f"{len(record)} fields where the header names {len(header)};"
        " put quotes around a text that holds the separator"
    )


def records_of(file: Path, errors: str = "strict") -> Iterator[list[str]]:
    """The header and every record; blank lines are no records.

    `errors`: what to do with bytes that are no UTF-8, as `open` takes it.
    """
    number = 0
    limit_before = csv.field_size_limit(MAX_TEXT_CHARACTERS)
    try:
        with file.open(encoding="utf-8-sig", errors=errors, newline="") as stream:
            delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
            for record in csv.reader(_lines(stream, file), delimiter=delimiter, strict=True):
                if record:
                    yield record
                    number += 1
    except csv.Error as error:
        raise DataError(f"{file.name}:row {number}: {error}; is a quote opened and never closed?") from None
    except UnicodeDecodeError:
        line = _undecodable_line(file)
        raise DataError(f"{file.name}: not UTF-8 text in line {line}; save it as UTF-8") from None
    finally:
        csv.field_size_limit(limit_before)


def _lines(stream: TextIO, file: Path) -> Iterator[str]:
    """Raises UserError for a line that no text has: one may be as long as the file."""
    for number, line in enumerate(iter(lambda: stream.readline(MAX_TEXT_CHARACTERS), ""), start=1):
        if "\0" in line:
            raise DataError(f"{file.name}: line {number} has a NUL character; save the file as UTF-8 text")
        if len(line) == MAX_TEXT_CHARACTERS:
            raise DataError(
                f"{file.name}: line {number} has more than {MAX_TEXT_CHARACTERS:,} characters; no text is so "
                "long: is a quote opened and never closed?"
            )
        yield line


def _undecodable_line(file: Path) -> int:
    """Text is decoded in large pieces, so only a second look finds the line."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    raise AssertionError("the whole file decodes")
