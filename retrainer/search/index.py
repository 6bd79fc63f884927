"""A recipe's dataset as it is searched: every row, and what the model's body makes of it.

Legend: M rows, D feature width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from retrainer.errors import DataError, SettingError
from retrainer.formats.columns import class_names, picked
from retrainer.formats.dataset import Dataset
from retrainer.formats.names import SPLITS
from retrainer.search.measure import recall_at
from retrainer.tasks._neighbours import nearest_rows

if TYPE_CHECKING:
    from retrainer.predict import Predictor

# More rows are sampled evenly from each split: the features of all would take long.
MOST_ROWS = 50_000
MOST_FOUND = 50


@dataclass(frozen=True)
class Index:
    """`table`: the rows, with the column `split`; `features` float32 [M, D]; `classes` of each, or None."""

    table: pa.Table
    features: np.ndarray
    classes: list[list[str]] | None

    def nearest(self, query: np.ndarray, count: int) -> list[tuple[int, float]]:
        """(row, cosine) of the rows nearest to features [D], the nearest first."""
        cosines, which = nearest_rows(query[None], self.features, count)
        return list(zip(which[0].tolist(), cosines[0].tolist(), strict=True))

    def row(self, number: int) -> dict[str, Any]:
        return dict(self.table.slice(number, 1).to_pylist()[0])

    @cached_property
    def recall(self) -> list[dict[str, Any]]:
        """Of the test rows among the training rows; nothing where rows have no classes."""
        if self.classes is None:
            return []
        splits = np.array(self.table["split"].to_pylist())
        asked, searched = (np.flatnonzero(splits == name) for name in ("test", "train"))
        own, theirs = ([self.classes[row] for row in rows] for rows in (asked, searched))
        return recall_at(self.features[asked], own, self.features[searched], theirs)


def require_searchable(predictor: Predictor) -> None:
    """Raises SettingError for a task whose body makes no one vector of a row."""
    if "features" not in predictor.task.abilities:
        raise SettingError(
            "make search compares one vector of features a row, which this task's models do not make; it"
            " takes classes of texts, images and sounds"
        )


def rows_of(dataset: Path, predictor: Predictor) -> pa.Table:
    """The inputs, targets and origins of every split, with `split`; of very many an even sample."""
    data = Dataset(dataset)
    task = predictor.task
    columns = [*task.input_columns, *task.target_columns, "id", "origin"]
    needed = [next(iter(task.input_columns)), *task.target_columns]
    if lacking := [name for name in needed if name not in data.manifest["columns"]]:
        raise DataError(f"{dataset} has no column {lacking[0]!r}, which this model is of; leave MODEL out")
    splits = [name for name in SPLITS if data.manifest["rows"].get(name)]
    share = min(1.0, MOST_ROWS / max(1, sum(data.manifest["rows"][name] for name in splits)))
    parts = [_with_split(data.split(name, columns), name, share) for name in splits]
    if not parts:
        raise DataError(f"{dataset} has no rows to search; run make pipeline")
    return pa.concat_tables(parts, promote_options="default")


def _with_split(table: pa.Table, name: str, share: float) -> pa.Table:
    if share < 1:
        rows = np.unique(np.linspace(0, len(table) - 1, max(1, int(share * len(table)))).astype(np.int64))
        table = picked(table, rows)
    return table.append_column("split", pa.array([name] * len(table), pa.string()))


def index_of(table: pa.Table, predictor: Predictor, features: np.ndarray | None = None) -> Index:
    """`features`: those of the table, where they are known already. Raises DataError for those of another."""
    targets: Mapping[str, str] = predictor.task.target_columns
    made = predictor.features(table) if features is None else features
    if len(made) != len(table):
        raise DataError("the dataset is another than when the search began; start make search again")
    return Index(table, made, class_names(table, targets))
