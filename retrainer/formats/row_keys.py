"""Which rows a dataset has, or a model knows, without the rows: 64 bits of each row's content hash.

By them a later evaluation finds test rows that an older model was trained on, and those that it never met.
A hash gives no content away, but who holds a row can tell whether it was among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FILE = "row_keys.parquet"
_BYTES = 8


def write_row_keys(directory: Path, keys: Mapping[str, Sequence[bytes]]) -> None:
    """Writes the first 8 bytes of each row's content key, by split, in the order of the split's rows."""
    splits = [split for split, rows in keys.items() for _ in rows]
    joined = b"".join(key[:_BYTES] for rows in keys.values() for key in rows)
    table = pa.table(
        {
            "split": pa.array(splits, pa.string()).dictionary_encode(),
            "key": pa.array(np.frombuffer(joined, "<u8").astype(np.uint64)),
        }
    )
    pq.write_table(table, directory / FILE, compression="zstd")


def read_row_keys(directory: Path) -> dict[str, np.ndarray]:
    """Split → uint64 [rows]; empty where an older version, or a trainer of one's own, left no such file."""
    path = directory / FILE
    if not path.is_file():
        return {}
    table = pq.read_table(path)
    splits, keys = table["split"].cast(pa.string()).to_numpy(zero_copy_only=False), table["key"].to_numpy()
    return {str(split): keys[splits == split] for split in dict.fromkeys(splits)}
