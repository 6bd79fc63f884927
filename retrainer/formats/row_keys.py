"""Which rows a dataset has, or a model knows, without the rows: 64 bits of each row's content hash.

By them a later evaluation finds test rows that an older model was trained on, and those that it never met.
A hash gives no content away, but who holds a row can tell whether it was among them.

    row_keys.parquet     `split`, `key` (uint64), in the order of the splits' rows
    components.parquet   `split`, `component` (uint64), of a dataset alone: rows of one component depend on
                         each other, as they share a group or are nearly equal
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FILE = "row_keys.parquet"
COMPONENTS = "components.parquet"
_BYTES = 8


def write_row_keys(directory: Path, keys: Mapping[str, Sequence[bytes]]) -> None:
    """Writes the first 8 bytes of each row's content key, by split, in the order of the split's rows."""
    _write(directory / FILE, "key", keys)


def read_row_keys(directory: Path) -> dict[str, np.ndarray]:
    """Split → uint64 [rows]; empty where an older version, or a trainer of one's own, left no such file."""
    return _read(directory / FILE, "key")


def write_components(directory: Path, components: Mapping[str, Sequence[bytes]]) -> None:
    """Writes the first 8 bytes of the name of each row's component, as `write_row_keys` does."""
    _write(directory / COMPONENTS, "component", components)


def read_components(directory: Path) -> dict[str, np.ndarray]:
    """Split → uint64 [rows]; empty where an older version left no such file."""
    return _read(directory / COMPONENTS, "component")


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
