"""The forms of an output: rows of a window → bytes that are appended, and at the end the whole file.

A CSV file has the columns of the input's first window; what is no text or number stands in it as JSON. A
Parquet file keeps the types of a Parquet input; of another input, what is no text stands in it as JSON too.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from retrainer.batch_prediction.answers import ORIGIN
from retrainer.batch_prediction.windows import MOST_ROWS, Window
from retrainer.errors import DataError, SettingError

if TYPE_CHECKING:
    import pyarrow as pa

# Of one row group of a Parquet file, before compression.
_GROUP_BYTES = 32 * 2**20


class Encoding(Protocol):
    def start(self, window: Window) -> None:
        """Takes the input's columns from its first window."""

    def misfit(self, kept: Mapping[str, Any]) -> str:
        """Why a row with these columns of its own cannot stand in the output; empty where it can."""

    def encode(self, window: Window, rows: Sequence[int], answers: pa.Table, first: bool) -> bytes:
        """`answers` of these rows of the window, with the input's columns; `first`: nothing was before it."""

    def finish(self, part: Path) -> Path:
        """The whole file, made of what was appended: the same one, or another beside it."""


def encoding_of(suffix: str) -> Encoding:
    """By the ending of a file's name. Raises SettingError for one that is not written."""
    makers: dict[str, Callable[[], Encoding]] = {
        ".csv": CsvRows,
        ".jsonl": JsonRows,
        ".ndjson": JsonRows,
        ".parquet": ParquetRows,
    }
    if suffix not in makers:
        raise SettingError(f"OUTPUT ends in '{suffix}'; name a file that ends in {', '.join(makers)}, or -")
    return makers[suffix]()


class JsonRows:
    """One object a line."""

    def start(self, window: Window) -> None:
        """Each line names its own keys."""

    def misfit(self, kept: Mapping[str, Any]) -> str:  # noqa: ARG002
        return ""

    def encode(self, window: Window, rows: Sequence[int], answers: pa.Table, first: bool) -> bytes:  # noqa: ARG002
        kept, said = plain_rows(window, rows), answers.to_pylist()
        return b"".join(json_line({**row, **answer}) for row, answer in zip(kept, said, strict=True))

    def finish(self, part: Path) -> Path:
        """It is whole."""
        return part


class _Columns:
    """Of an output whose rows all have the same columns."""

    columns: tuple[str, ...] = ()

    def start(self, window: Window) -> None:
        kept = window.kept
        names = (name for row in kept for name in row) if isinstance(kept, list) else kept.column_names
        self.columns = tuple(dict.fromkeys(names))

    def misfit(self, kept: Mapping[str, Any]) -> str:
        more = next((name for name in kept if name not in self.columns), None)
        if more is None:
            return ""
        return f"has '{more}', which no row of the first {MOST_ROWS:,} has; write a .jsonl file"


class CsvRows(_Columns):
    """Comma-separated, UTF-8, with a header, a line ended by a line feed."""

    def encode(self, window: Window, rows: Sequence[int], answers: pa.Table, first: bool) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if first:
            writer.writerow([*self.columns, *answers.column_names])
        for row, answer in zip(plain_rows(window, rows), answers.to_pylist(), strict=True):
            writer.writerow([*(_cell(row.get(name)) for name in self.columns), *map(_cell, answer.values())])
        return text.getvalue().encode()

    def finish(self, part: Path) -> Path:
        if not part.stat().st_size:
            part.write_text(",".join([*self.columns, ORIGIN]) + "\n", encoding="utf-8")
        return part


class ParquetRows(_Columns):
    """Appended as streams of Arrow's own, one a window; rewritten as one Parquet file at the end."""

    def start(self, window: Window) -> None:
        super().start(window)
        self._schema = self._kept_table(window, []).schema

    def encode(self, window: Window, rows: Sequence[int], answers: pa.Table, first: bool) -> bytes:  # noqa: ARG002
        import pyarrow as pa

        table = self._kept_table(window, rows)
        if table.schema != self._schema:
            place = window.origins[0]
            raise DataError(f"{place}: columns of other types than in the files before; write a .jsonl file")
        table = pa.table({one: part[one] for part in (table, answers) for one in part.column_names})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return bytes(sink.getvalue())

    def finish(self, part: Path) -> Path:
        import pyarrow as pa
        import pyarrow.parquet as pq

        aside = part.with_name(f"{part.name}.parquet")
        groups = _row_groups(part)
        first = next(groups, pa.schema([*self._schema, (ORIGIN, pa.string())]).empty_table())
        with pq.ParquetWriter(aside, first.schema) as writer:
            writer.write_table(first)
            for group in groups:
                writer.write_table(group)
        return aside

    def _kept_table(self, window: Window, rows: Sequence[int]) -> pa.Table:
        import pyarrow as pa

        from retrainer.data.tables import take_rows

        if not isinstance(window.kept, list):
            return take_rows(window.kept, rows)
        chosen = [window.kept[row] for row in rows]
        return pa.table(
            {name: pa.array([_cell(row.get(name)) for row in chosen], pa.string()) for name in self.columns}
        )


def _row_groups(part: Path) -> Iterator[pa.Table]:
    """What ParquetRows appended, joined to tables of some size; only one is held at a time."""
    import pyarrow as pa

    group: list[pa.Table] = []
    with part.open("rb") as source:
        while source.peek(1):
            group.append(pa.ipc.open_stream(source).read_all())
            if sum(table.nbytes for table in group) >= _GROUP_BYTES:
                yield pa.concat_tables(group)
                group = []
    if group:
        yield pa.concat_tables(group)


def json_line(row: Mapping[str, Any], ascii_alone: bool = False) -> bytes:
    """`ascii_alone`: for a row that may hold what is no text in UTF-8."""
    return json.dumps(_plain(row), ensure_ascii=ascii_alone, default=str).encode() + b"\n"


def plain_rows(window: Window, rows: Sequence[int]) -> list[Mapping[str, Any]]:
    """The input's own columns of these rows, as values that JSON and CSV can hold."""
    if isinstance(window.kept, list):
        return [window.kept[row] for row in rows]
    from retrainer.data.sources.parquet import plain_values
    from retrainer.data.tables import take_rows

    table = take_rows(window.kept, rows)
    columns = {
        name: plain_values(table[name].combine_chunks(), window.folder, name) for name in table.column_names
    }
    return [{name: values[row] for name, values in columns.items()} for row in range(len(rows))]


def _cell(value: Any) -> str | None:
    """Text as it is, what has no value as None, all else as JSON has it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None
    return json.dumps(_plain(value), ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    """Numbers that JSON has no word for as null, an image as base64 text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        if isinstance(value.get("bytes"), bytes):  # an image, as serving writes it
            return base64.b64encode(value["bytes"]).decode()
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
