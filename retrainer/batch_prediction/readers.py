"""What lies at INPUT, read window by window: tables, lines of text, folders of images or sounds.

A row that cannot be read is a Row with a `problem`; what leaves nothing to read behind it (a quote that is
never closed, half a Parquet file, a column that no row has) raises DataError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from retrainer.batch_prediction.columns import InputColumns
from retrainer.batch_prediction.files import file_row, folder_rows, has_files, suffixes_of
from retrainer.batch_prediction.parquet import parquet_windows, row_count
from retrainer.batch_prediction.windows import MOST_NAMED_FILES, MOST_ROWS, Row, Window, windows_of
from retrainer.data.sources import csv, jsonl
from retrainer.data.sources._columns import MAX_TEXT_CHARACTERS
from retrainer.errors import DataError, SettingError

STDIN = "-"
LINES = (".txt",)
PARQUET = (".parquet",)
_NOT_UTF8 = "not UTF-8 text; save it as UTF-8"
_TABLES = (*csv.SUFFIXES, *jsonl.SUFFIXES, *PARQUET, *LINES)


@dataclass
class Input:
    """`title` as people know it. `windows`: all rows, in order. `total`: how many, where that is known.
    `passed_over`: files of a folder that hold no row, counted while it is read, and the first of them."""

    title: str
    windows: Iterator[Window]
    total: int | None = None
    passed_over: list[Any] = field(default_factory=lambda: [0, ""])


def open_input(path: str, columns: InputColumns, stdin: BinaryIO) -> Input:
    """Raises SettingError for a path that is not there, or that a model of these columns does not read."""
    if path == STDIN:
        return Input("stdin", _of_stream(stdin, columns))
    if not path:
        raise SettingError("INPUT is empty; name a file or folder of rows, or - for lines on stdin")
    place = Path(path)
    if place.is_dir():
        return _of_folder(place, columns)
    if not place.is_file():
        raise SettingError(f"INPUT={path} does not exist; name a file or folder of rows")
    return _of_file(place, columns)


def _of_file(file: Path, columns: InputColumns) -> Input:
    suffix = file.suffix.lower()
    if suffix in PARQUET:
        return Input(file.name, parquet_windows(file, columns), row_count(file))
    if suffix in csv.SUFFIXES:
        return Input(file.name, _csv_windows(file, columns))
    if suffix in jsonl.SUFFIXES:
        return Input(file.name, _table_windows(_opened(file, _jsonl_rows, columns), columns, file))
    if suffix in LINES:
        return Input(file.name, _table_windows(_opened(file, _line_rows, columns), columns, file))
    if columns.holds_files and suffix not in (".zip", ".tar", ".gz", ".tgz", ".xz", ".txz"):
        rows = [file_row(file, file.name, columns)]
        return Input(file.name, windows_of(rows, columns.words, file.parent), 1)
    known = ", ".join(_TABLES)
    raise SettingError(
        f"INPUT={file}: its ending is none of {known}; unpack an archive, or write the rows as one of these"
    )


def _of_folder(folder: Path, columns: InputColumns) -> Input:
    """The images or sounds in it, where the model reads such and there is one; else its tables."""
    if columns.holds_files and has_files(folder, columns):
        found = Input(folder.resolve().name, iter(()))
        found.windows = windows_of(folder_rows(folder, columns, found.passed_over), columns.words, folder)
        return found
    here = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    tables = [path for path in here if path.suffix.lower() in _TABLES]
    if not tables:
        kinds = (*(suffixes_of(columns) if columns.holds_files else ()), *_TABLES)
        raise SettingError(f"INPUT={folder} holds no file that this model reads ({', '.join(kinds)})")
    if len({path.suffix.lower() for path in tables}) > 1:
        several = ", ".join(sorted({path.suffix.lower() for path in tables}))
        raise SettingError(f"INPUT={folder} holds {several} files; leave those of one kind, or name one file")
    parts = [_of_file(path, columns) for path in tables]
    totals = [part.total for part in parts]
    total = sum(one or 0 for one in totals) if None not in totals else None
    return Input(folder.resolve().name, (window for part in parts for window in part.windows), total)


def _table_windows(rows: Iterable[Row], columns: InputColumns, file: Path) -> Iterator[Window]:
    most = MOST_NAMED_FILES if columns.holds_files else MOST_ROWS
    return windows_of(rows, columns.words, file.parent, most)


def _opened(
    file: Path, reader: Callable[[BinaryIO, str, InputColumns], Iterator[Row]], columns: InputColumns
) -> Iterator[Row]:
    with file.open("rb") as stream:
        yield from reader(stream, file.name, columns)


def _of_stream(stream: Any, columns: InputColumns) -> Iterator[Window]:
    """Lines of JSON where the first one begins with a brace, else a text (or a file's path) a line."""
    start = stream.peek(1).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    reader = _jsonl_rows if start == b"{" else _line_rows
    return _table_windows(reader(stream, "stdin", columns), columns, Path("stdin"))


def _csv_windows(file: Path, columns: InputColumns) -> Iterator[Window]:
    # A byte that is no UTF-8 makes its row unreadable, and no other.
    records = csv.records_of(file, errors="surrogateescape")
    header = csv.header_of(records, file)
    if _size_of_text(header)[1]:
        raise DataError(f"{file.name}: the names of its columns are {_NOT_UTF8}")
    none = True
    for window in _table_windows(_csv_rows(records, header, columns, file), columns, file):
        none = False
        yield window
    if none:
        yield Window(kept=pa.table({name: pa.array([], pa.string()) for name in header}))


def _csv_rows(
    records: Iterator[list[str]], header: list[str], columns: InputColumns, file: Path
) -> Iterator[Row]:
    found = columns.find_in_file(header, file.name)
    for number, record in enumerate(records, start=1):
        origin = f"{file.name}:row {number}"
        if len(record) != len(header):
            yield Row(origin, problem=csv.uneven(record, header))
            continue
        kept = dict(zip(header, record, strict=True))
        size, problem = _size_of_text(record)
        yield Row(origin, {ours: kept[name] for ours, name in found.items()}, kept, problem, size)


def _size_of_text(record: list[str]) -> tuple[int, str]:
    """Bytes, and what is wrong with them."""
    try:
        return len("".join(record).encode()), ""
    except UnicodeEncodeError:  # half a character stands for a byte that was no UTF-8
        return 0, _NOT_UTF8


def _jsonl_rows(stream: BinaryIO, name: str, columns: InputColumns) -> Iterator[Row]:
    for number, line in jsonl.lines_of(stream, name):
        origin = f"{name}:row {number}"
        try:
            record = jsonl.parse(line, name, number)
            found = columns.find(record)
        except DataError as error:
            yield Row(origin, problem=str(error).removeprefix(f"{origin}: "))
            continue
        values = {ours: record[one] for ours, one in found.items()}
        yield Row(origin, values, record, _half_character(line, record), len(line))


def _half_character(line: bytes, record: dict[str, Any]) -> str:
    """What is wrong with a line whose escapes stand for what no text can hold."""
    try:
        if b"\\u" in line:
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate); write the text out as UTF-8"
    return ""


def _line_rows(stream: BinaryIO, name: str, columns: InputColumns) -> Iterator[Row]:
    ours = columns.first
    for number, line in enumerate(iter(lambda: stream.readline(MAX_TEXT_CHARACTERS), b""), start=1):
        origin = f"{name}:row {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            yield Row(origin, problem=_NOT_UTF8)
            continue
        yield Row(origin, {ours: text}, {columns.names[ours]: text}, size=len(line))
