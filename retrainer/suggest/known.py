"""Rows that are known: those that the model or the dataset has, and texts nearly equal to one of these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from retrainer.data.similar import similar_texts
from retrainer.errors import DataError
from retrainer.formats.dataset import Dataset
from retrainer.formats.files import MANIFEST
from retrainer.formats.row_keys import RowKeys, joined, read_left_out, read_rows
from retrainer.settings import Checks
from retrainer.suggest.pool import NEAR, Pool


def known_rows(model: Path, dataset: Path) -> RowKeys:
    """What the model has learned from or was tested on, and what the recipe's dataset has, if it is here."""
    known = [*read_rows(model).values(), *read_rows(dataset).values()]
    return joined([*known, read_left_out(dataset)[0]])


def without_near(pool: Pool, dataset: Path, checks: Checks) -> Pool:
    """Leaves out texts that are nearly equal to one of the dataset, by the recipe's own threshold."""
    names = [name for name in ("text", "text_pair") if name in pool.shown.column_names]
    if not names or checks.near_duplicates == "off" or not (dataset / MANIFEST).is_file():
        return pool
    data = Dataset(dataset)
    known = [text for split in data.manifest["rows"] for text in _texts(data.split(split, names), names)]
    pairs = np.sort(similar_texts([*known, *_texts(pool.shown, names)], checks.text_similarity), axis=1)
    near = pairs[(pairs[:, 0] < len(known)) & (pairs[:, 1] >= len(known)), 1] - len(known)
    kept: np.ndarray = np.ones(len(pool.features), bool)
    kept[near] = False
    if not kept.any():
        raise DataError("every row is nearly equal to one of the recipe's dataset; no row is left to label")
    return pool.take(kept, NEAR)


def _texts(table: pa.Table, names: Sequence[str]) -> list[str]:
    columns = [table[name].to_pylist() for name in names if name in table.column_names]
    return ["\n".join(part or "" for part in row) for row in zip(*columns, strict=True)]
