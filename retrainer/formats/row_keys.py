"""Which rows a dataset has, or a model knows, without the rows: 64 bits of hashes of each row's content.

By them a later evaluation finds test rows that an older model was trained on, and those that it never met.
A hash gives no content away, but who holds a row can tell whether it was among them. A picture's hash says
roughly where the picture is light and dark, a sound's which frequencies it has.

    row_keys.parquet    `split`, `key` (uint64, of all that the task reads), in the order of the splits' rows;
                        `input.NAME` (uint64, of one column that the task reads; 0: not known) for each of
                        them, of a single one its name alone; `picture` (data/perceptual_hashes.py; zeros:
                        none) where the task reads an image or a sound. A file of version 1 has `split`
                        and `key` alone. Of a model also the rows of split `inherited`: what the model
                        that it started from had learned from, and so on back
    components.parquet  `split`, `component` (uint64), of a dataset alone: rows of one component depend on
                        each other, as they share a group or are nearly equal
    left_out.parquet    the keys and the `component`, of a dataset alone: rows of a test row's component that
                        are in no split; where there are any

Legend: N rows, W words of a picture's hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrainer.errors import DataError

FILE = "row_keys.parquet"
FORMAT_VERSION = 2
# Of a model, what it has learned from; `test` only judged it.
INHERITED = "inherited"
LEARNED_FROM = ("train", "validation", INHERITED)
COMPONENTS = "components.parquet"
LEFT_OUT = "left_out.parquet"
_VERSION, _ALONE = b"format_version", b"input_is_key"
_INPUT, _PICTURE = "input.", "picture"
_BYTES = 8


@dataclass(frozen=True)
class RowKeys:
    """Hashes of N rows: `key` uint64 [N] of all inputs together, `inputs` uint64 [N] of each by its name (0
    where it is not known, none of version 1), `pictures` uint64 [N, W], W = 0 where none has one."""

    key: np.ndarray
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    pictures: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint64))

    def __post_init__(self) -> None:
        if not self.pictures.shape[1]:
            object.__setattr__(self, "pictures", np.zeros((len(self.key), 0), np.uint64))

    def take(self, rows: np.ndarray | Sequence[int]) -> RowKeys:
        """The rows at these places (int), or those that are chosen (bool [N])."""
        at = np.asarray(rows, None if len(rows) else np.int64)
        inputs = {name: of_input[at] for name, of_input in self.inputs.items()}
        return RowKeys(self.key[at], inputs, self.pictures[at])


def joined(parts: Sequence[RowKeys]) -> RowKeys:
    """The rows of all parts, in their order; what a part does not know of an input or a picture is 0."""
    names = dict.fromkeys(name for part in parts for name in part.inputs)
    words = max((part.pictures.shape[1] for part in parts), default=0)

    def of_input(name: str) -> np.ndarray:
        unknown = [part.inputs.get(name, np.zeros(len(part.key), np.uint64)) for part in parts]
        return np.concatenate(unknown)

    pictures = [np.pad(part.pictures, ((0, 0), (0, words - part.pictures.shape[1]))) for part in parts]
    return RowKeys(
        np.concatenate([part.key for part in parts]) if parts else np.zeros(0, np.uint64),
        {name: of_input(name) for name in names},
        np.concatenate(pictures) if parts else np.zeros((0, 0), np.uint64),
    )


def write_row_keys(directory: Path, keys: Mapping[str, Sequence[bytes] | RowKeys]) -> None:
    """Writes the keys by split, in the order of the split's rows; of hashes the first 8 bytes."""
    parts = {
        split: rows if isinstance(rows, RowKeys) else RowKeys(short(rows)) for split, rows in keys.items()
    }
    table = _table_of(joined(list(parts.values())))
    splits = _repeated({split: len(rows.key) for split, rows in parts.items()})
    _write(table.add_column(0, "split", splits), directory / FILE)


def _table_of(rows: RowKeys) -> pa.Table:
    columns = {"key": pa.array(rows.key)}
    # Where the task reads one column its keys are the rows' own: they are named, and not written twice.
    alone = [name for name, of_input in rows.inputs.items() if np.array_equal(of_input, rows.key)]
    columns |= {_INPUT + name: pa.array(rows.inputs[name]) for name in rows.inputs if name not in alone}
    if width := _BYTES * rows.pictures.shape[1]:
        hashes = pa.py_buffer(rows.pictures.astype("<u8").tobytes())
        columns[_PICTURE] = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(width), len(rows.key), [None, hashes]
        )
    about = {_VERSION: str(FORMAT_VERSION), _ALONE: ",".join(alone)}
    return pa.table(columns).replace_schema_metadata(about)


def read_row_keys(directory: Path) -> dict[str, np.ndarray]:
    """Split → uint64 [rows]; empty where an older version, or a trainer of one's own, left no such file."""
    return {split: rows.key for split, rows in read_rows(directory).items()}


def read_rows(directory: Path) -> dict[str, RowKeys]:
    """Split → all that is known of its rows; empty as `read_row_keys` is.

    Raises DataError for a file of a later format.
    """
    if not (directory / FILE).is_file():
        return {}
    table = pq.read_table(directory / FILE)
    rows = _rows_of(table, directory / FILE)
    return {split: rows.take(chosen) for split, chosen in _splits(table).items()}


def _rows_of(table: pa.Table, path: Path) -> RowKeys:
    about = table.schema.metadata or {}
    version = int(about.get(_VERSION, b"1"))
    if version > FORMAT_VERSION:
        raise DataError(
            f"{path} is of format {version}, and this version reads up to {FORMAT_VERSION};"
            " install the version that wrote it"
        )
    inputs = {name: "key" for name in about.get(_ALONE, b"").decode().split(",") if name}
    inputs |= {name.removeprefix(_INPUT): name for name in table.column_names if name.startswith(_INPUT)}
    of_input = {name: table[column].to_numpy() for name, column in inputs.items()}
    return RowKeys(table["key"].to_numpy(), of_input, _pictures(table))


def _pictures(table: pa.Table) -> np.ndarray:
    if _PICTURE not in table.column_names:
        return np.zeros((len(table), 0), np.uint64)
    words = table.schema.field(_PICTURE).type.byte_width // _BYTES
    hashes = b"".join(table[_PICTURE].to_pylist())
    return np.frombuffer(hashes, "<u8").astype(np.uint64).reshape(len(table), words)


def learned_rows(model: Path) -> RowKeys:
    """The distinct rows that a model directory has learned from, by key; none where it is unknown."""
    known = read_rows(model)
    rows = joined([known[split] for split in LEARNED_FROM if split in known])
    return rows.take(np.unique(rows.key, return_index=True)[1])


def hand_down_row_keys(dataset: Path, start: Path | str | None, model: Path) -> None:
    """Writes the row keys of a model that was trained on the dataset directory.

    `start` is what it started from: of a model directory, which its manifest seals with its weights, the keys
    are inherited.
    """
    (model / FILE).unlink(missing_ok=True)
    ours = isinstance(start, Path) and (start / "manifest.json").is_file()
    inherited = learned_rows(Path(start)) if ours and start else RowKeys(np.zeros(0, np.uint64))
    if not (dataset / FILE).is_file():
        return
    if not len(inherited.key):
        (model / FILE).write_bytes((dataset / FILE).read_bytes())
        return
    write_row_keys(model, {**read_rows(dataset), INHERITED: inherited})


def write_components(directory: Path, components: Mapping[str, Sequence[bytes]]) -> None:
    """Writes the first 8 bytes of the name of each row's component, by split."""
    hashes = np.concatenate([short(rows) for rows in components.values()])
    splits = _repeated({split: len(rows) for split, rows in components.items()})
    _write(pa.table({"split": splits, "component": hashes}), directory / COMPONENTS)


def read_components(directory: Path) -> dict[str, np.ndarray]:
    """Split → uint64 [rows]; empty where an older version left no such file."""
    if not (directory / COMPONENTS).is_file():
        return {}
    table = pq.read_table(directory / COMPONENTS)
    hashes = table["component"].to_numpy()
    return {split: hashes[chosen] for split, chosen in _splits(table).items()}


def write_left_out(directory: Path, rows: RowKeys, components: Sequence[bytes]) -> None:
    """Writes the keys of rows that are in no split, and their components; no file without rows."""
    if components:
        column = pa.array(short(components))
        _write(_table_of(rows).append_column("component", column), directory / LEFT_OUT)


def read_left_out(directory: Path) -> tuple[RowKeys, np.ndarray]:
    """The keys and components, uint64 [N], of rows that are in no split; none where there is no file."""
    if not (directory / LEFT_OUT).is_file():
        return joined([]), np.zeros(0, np.uint64)
    table = pq.read_table(directory / LEFT_OUT)
    return _rows_of(table, directory / LEFT_OUT), table["component"].to_numpy()


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


def _repeated(rows: Mapping[str, int]) -> pa.Array:
    """The name of each split as often as it has rows."""
    splits = pa.array([split for split, count in rows.items() for _ in range(count)], pa.string())
    return splits.dictionary_encode()


def _splits(table: pa.Table) -> dict[str, np.ndarray]:
    """Split → bool [rows], in the order in which the splits begin."""
    splits = table["split"].cast(pa.string()).to_numpy(zero_copy_only=False)
    return {str(split): splits == split for split in dict.fromkeys(splits)}


def short(hashes: Sequence[bytes]) -> np.ndarray:
    """uint64 [rows]: the first 8 bytes of each."""
    return np.frombuffer(b"".join(one[:_BYTES] for one in hashes), "<u8").astype(np.uint64)
