"""A dataset's profile: its labels counted and a sample of its rows as numbers, to find drift by later.

    profile.parquet   up to 2,048 rows: `key` (uint64, see row_keys), `label`, `measures` and `embedding`
                      (lists of float16); in the schema's metadata, as JSON, `version`, `columns` (what was
                      measured), `names` (of the measures), `counts` (label → rows, of all that are sampled)

It lies in a dataset that preprocess made, and travels with the report of the model that was trained on it, so
that it is found without the dataset. The numbers are coarse, but who holds a row can tell whether it was
among them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrainer.errors import DataError

FILE = "profile.parquet"
# Raised whenever a measure or the embedding means something else than before.
VERSION = 1
_ABOUT = b"retrainer"


@dataclass(frozen=True)
class Profile:
    """Of N sampled rows keys uint64 [N], labels [N], measures [N, S] and an embedding [N, D], float32."""

    columns: tuple[str, ...]
    names: tuple[str, ...]
    counts: Mapping[str, int]
    keys: np.ndarray
    labels: Sequence[str]
    measures: np.ndarray
    embedding: np.ndarray

    @property
    def rows(self) -> int:
        """All rows that the sample is of."""
        return sum(self.counts.values())


def write_profile(directory: Path, profile: Profile) -> None:
    table = pa.table(
        {
            "key": pa.array(profile.keys),
            "label": pa.array(profile.labels, pa.string()).dictionary_encode(),
            "measures": _lists(profile.measures),
            "embedding": _lists(profile.embedding),
        }
    )
    about = {
        "version": VERSION,
        "columns": profile.columns,
        "names": profile.names,
        "counts": dict(profile.counts),
    }
    note = {_ABOUT: json.dumps(about, sort_keys=True).encode()}
    pq.write_table(table.replace_schema_metadata(note), directory / FILE, compression="zstd")


def _lists(values: np.ndarray) -> pa.Array:
    """float [N, W] as lists of W; of width 0 as well."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.astype(np.float16).ravel()))


def read_profile(path: Path) -> Profile | None:
    """The profile of the file; None for one of another version. Raises UserError for a file that is none."""
    try:
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[_ABOUT])
        if about["version"] != VERSION:
            return None
        return Profile(
            columns=tuple(about["columns"]),
            names=tuple(about["names"]),
            counts={str(label): int(count) for label, count in about["counts"].items()},
            keys=table["key"].to_numpy(),
            labels=table["label"].cast(pa.string()).to_pylist(),
            measures=_array(table["measures"], len(table)),
            embedding=_array(table["embedding"], len(table)),
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise DataError(f"{path} is no profile of a dataset ({error})") from None


def _array(column: pa.ChunkedArray, rows: int) -> np.ndarray:
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return values.reshape(rows, -1) if rows and len(values) else np.zeros((rows, 0), np.float32)
