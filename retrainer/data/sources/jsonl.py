"""JSON Lines (.jsonl, .ndjson): one object a line, in UTF-8. Row 1 is the first line of the file.

A label may be a word, a whole number or a list of them; an image is a path beside the file.
`path` may also be a folder of such files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from retrainer.data.sources._columns import (
    MAX_TEXT_CHARACTERS,
    Chunk,
    encoded_names,
    files_with_media,
    name_of,
    pick_columns,
    read_tables,
    rows_per_chunk,
    words_of,
)
from retrainer.errors import DataError
from retrainer.settings import Source

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".jsonl", ".ndjson")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in it")
    return record


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number; write null where there is none")


# Stricter than Python's: JSON has no NaN and no infinity, and of two equal keys none is the right one.
_DECODER = json.JSONDecoder(object_pairs_hook=_each_once, parse_constant=_no_number)


def files(source: Source) -> list[Path]:
    """The JSONL files and the images they name."""
    return files_with_media(source, SUFFIXES, _file_names)


def read(source: Source) -> Iterator[pa.Table]:
    """Tables in our columns. Raises UserError naming file and row for what cannot be parsed."""
    return read_tables(source, SUFFIXES, chunks)


def first_rows(file: Path, most: int) -> tuple[dict[str, list[Any]], int]:
    """Every key with its values in the first rows, and how many rows there are; UserError as `read`."""
    records: list[dict[str, Any]] = []
    rows = 0
    for rows, (number, line) in enumerate(_lines(file), start=1):
        if rows <= most:
            records.append(parse(line, file.name, number))
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}, rows


def _file_names(file: Path, source: Source) -> Iterator[tuple[str, str]]:
    # Only lines that can hold a key are parsed: `resolve` asks for this on every run.
    names = {ours: name_of(source, ours) for ours in encoded_names(source)}
    keys = {
        json.dumps(n, ensure_ascii=ascii_only).encode()
        for n in names.values()
        for ascii_only in (False, True)
    }
    for number, line in _lines(file):
        if any(key in line for key in keys):
            record = parse(line, file.name, number)
            found = {ours: record.get(name) for ours, name in names.items()}
            yield from ((ours, value) for ours, value in found.items() if isinstance(value, str) and value)


def chunks(file: Path, source: Source) -> Iterator[Chunk]:
    """For `read_tables`. A key counts as a column when any line has it, so all lines are read first."""
    named = {name_of(source, ours) for ours in words_of(source)} | set(source.metadata)
    keys: dict[str, None] = {}
    numbers: list[int] = []
    values: dict[str, list[Any]] = {name: [] for name in named}
    for number, line in _lines(file):
        record = parse(line, file.name, number)
        keys.update(dict.fromkeys(record))
        numbers.append(number)
        for name in named:
            values[name].append(record.get(name))
    if not numbers:
        return
    chosen = pick_columns(source, list(keys), file.name)
    most = rows_per_chunk(source, chosen)
    for start in range(0, len(numbers), most):
        piece = slice(start, start + most)
        yield numbers[piece], {ours: values[name][piece] for ours, name in chosen.items()}


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as stream:
        yield from lines_of(stream, file.name)


def lines_of(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line that is not blank. Raises UserError for one that no object has."""
    for number, line in enumerate(iter(lambda: stream.readline(MAX_TEXT_CHARACTERS), b""), start=1):
        if len(line) == MAX_TEXT_CHARACTERS:
            raise DataError(
                f"{name}:row {number}: more than {MAX_TEXT_CHARACTERS:,} bytes; "
                "each line must be one whole object"
            )
        if line.strip():
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def parse(line: bytes, name: str, number: int) -> dict[str, Any]:
    """The line's object. Raises UserError that begins with the file's `name` and the row."""
    place = f"{name}:row {number}"
    try:
        record = _DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{place}: not UTF-8 text; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError
        raise DataError(f"{place}: not JSON ({error}); each line must be one whole object") from None
    if not isinstance(record, dict):
        raise DataError(
            f'{place}: a {type(record).__name__}, not an object such as {{"text": …, "label": …}}'
        )
    return record
