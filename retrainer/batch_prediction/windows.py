"""Rows of an input, a window at a time: what is read, predicted and written together.

Which rows share a window depends on the input alone, so that a run which goes on where another one was killed
computes the same batches. Legend: N rows of a window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

# A multiple of what the predictor sorts by length. A model of 100 rows a second loses 20 seconds by a kill.
MOST_ROWS = 2048
# Files of images and sounds, before they are decoded.
MOST_BYTES = 64 * 2**20
# Where a row of a table names a file whose size is not known yet.
MOST_NAMED_FILES = 128


class Row(NamedTuple):
    """`origin`: file and row, or the file. `values`: the model's column → the value as it stood, or the path
    of its file. `kept`: the input's own columns. `problem`: why it cannot be read. `size`: in bytes."""

    origin: str
    values: Mapping[str, Any] = {}
    kept: Mapping[str, Any] = {}
    problem: str = ""
    size: int = 0


@dataclass(frozen=True)
class Window:
    """`origins`, `problems` [N] and `values` (the model's column → [N]) as of a Row; `kept` [N]: a table
    where the input has types of its own. Files that a row names lie in `folder`."""

    origins: list[str] = field(default_factory=list)
    values: Mapping[str, list[Any]] = field(default_factory=dict)
    kept: pa.Table | list[Mapping[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    folder: Path = Path()

    def __len__(self) -> int:
        return len(self.origins)


def windows_of(
    rows: Iterable[Row], columns: Iterable[str], folder: Path, most_rows: int = MOST_ROWS
) -> Iterator[Window]:
    """Windows of `most_rows` rows or MOST_BYTES bytes, whichever is less, but of a row at least.

    Of the model's `columns` a window has those that any of its rows has.
    """
    names = list(columns)
    gathered: list[Row] = []
    size = 0
    for row in rows:
        if gathered and (len(gathered) == most_rows or size + row.size > MOST_BYTES):
            yield _window(gathered, names, folder)
            gathered, size = [], 0
        gathered.append(row)
        size += row.size
    if gathered:
        yield _window(gathered, names, folder)


def _window(rows: list[Row], columns: list[str], folder: Path) -> Window:
    return Window(
        [row.origin for row in rows],
        {
            name: [row.values.get(name) for row in rows]
            for name in columns
            if any(name in row.values for row in rows)
        },
        [row.kept for row in rows],
        [row.problem for row in rows],
        folder,
    )
