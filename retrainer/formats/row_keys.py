"""Which rows a dataset has, or a model knows, without the rows: 64 bits of each row's content hash.

By them a later evaluation finds test rows that an older model was trained on, and those that it never met.
A hash gives no content away, but who holds a row can tell whether it was among them.

    row_keys.parquet     `split`, `key` (uint64), in the order of the splits' rows
                         of a model also those of split `inherited`: what the model that it started from had
                         learned from, and so on back
    components.parquet   `split`, `component` (uint64), of a dataset alone: rows of one component depend on
                         each other, as they share a group or are nearly equal
    left_out.parquet     `key`, `component` (uint64), of a dataset alone: rows of a test row's component that
                         are in no split; where there are any
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FILE = "row_keys.parquet"
# Of a model, what it has learned from; `test` only judged it.
INHERITED = "inherited"
LEARNED_FROM = ("train", "validation", INHERITED)
COMPONENTS = "components.parquet"
LEFT_OUT = "left_out.parquet"
_BYTES = 8


def write_row_keys(directory: Path, keys: Mapping[str, Sequence[bytes]]) -> None:
    """Writes the first 8 bytes of each row's content key, by split, in the order of the split's rows."""
    _write(directory / FILE, "key", keys)


def read_row_keys(directory: Path) -> dict[str, np.ndarray]:
    """Split → uint64 [rows]; empty where an older version, or a trainer of one's own, left no such file."""
    return _read(directory / FILE, "key")


def learned_keys(model: Path) -> np.ndarray:
    """uint64, sorted: keys of the rows that a model directory has learned from; none where it is unknown."""
    known = read_row_keys(model)
    parts = [known[split] for split in LEARNED_FROM if split in known]
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.uint64)


def hand_down_row_keys(dataset: Path, start: Path | str | None, model: Path) -> None:
    """Writes the row keys of a model that was trained on the dataset directory.

    `start` is what it started from: of a model directory, which its manifest seals with its weights, the keys
    are inherited.
    """
    (model / FILE).unlink(missing_ok=True)
    ours = isinstance(start, Path) and (start / "manifest.json").is_file()
    inherited = learned_keys(Path(start)) if ours and start else np.zeros(0, np.uint64)
    if not (dataset / FILE).is_file():
        return
    if not len(inherited):
        (model / FILE).write_bytes((dataset / FILE).read_bytes())
        return
    known = read_row_keys(dataset)
    bytes_of = {split: [key.tobytes() for key in keys.astype("<u8")] for split, keys in known.items()}
    write_row_keys(model, bytes_of | {INHERITED: [key.tobytes() for key in inherited.astype("<u8")]})


def write_components(directory: Path, components: Mapping[str, Sequence[bytes]]) -> None:
    """Writes the first 8 bytes of the name of each row's component, as `write_row_keys` does."""
    _write(directory / COMPONENTS, "component", components)


def read_components(directory: Path) -> dict[str, np.ndarray]:
    """Split → uint64 [rows]; empty where an older version left no such file."""
    return _read(directory / COMPONENTS, "component")


def write_left_out(directory: Path, keys: Sequence[bytes], components: Sequence[bytes]) -> None:
    """Writes 64 bits of the key and of the component of rows that are in no split; no file without rows."""
    if keys:
        table = pa.table({"key": pa.array(short(keys)), "component": pa.array(short(components))})
        pq.write_table(table, directory / LEFT_OUT, compression="zstd")


def with_relatives(learned: np.ndarray, dataset: Path) -> np.ndarray:
    """uint64: the learned keys, and those of all rows of the dataset directory that share a component with
    one.

    Rows of one component depend on each other: who has learned from one knows something of the others. A
    dataset of an older version says nothing of components, and adds no key.
    """
    keys, components = read_row_keys(dataset), read_components(dataset)
    splits = [name for name in keys if name in components]
    if not splits or not len(learned):
        return learned
    parts = [(keys[name], components[name]) for name in splits]
    if (dataset / LEFT_OUT).is_file():
        table = pq.read_table(dataset / LEFT_OUT)
        parts.append((table["key"].to_numpy(), table["component"].to_numpy()))
    every, linked = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    met = np.unique(linked[np.isin(every, learned)])
    return np.union1d(learned, every[np.isin(linked, met)])


def _write(path: Path, column: str, hashes: Mapping[str, Sequence[bytes]]) -> None:
    splits = [split for split, rows in hashes.items() for _ in rows]
    table = pa.table(
        {
            "split": pa.array(splits, pa.string()).dictionary_encode(),
            column: pa.array(np.concatenate([short(rows) for rows in hashes.values()])),
        }
    )
    pq.write_table(table, path, compression="zstd")


def short(hashes: Sequence[bytes]) -> np.ndarray:
    """uint64 [rows]: the first 8 bytes of each."""
    return np.frombuffer(b"".join(one[:_BYTES] for one in hashes), "<u8").astype(np.uint64)


def _read(path: Path, column: str) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    table = pq.read_table(path)
    splits, hashes = table["split"].cast(pa.string()).to_numpy(zero_copy_only=False), table[column].to_numpy()
    return {str(split): hashes[splits == split] for split in dict.fromkeys(splits)}
