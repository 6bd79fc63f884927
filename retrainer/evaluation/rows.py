"""The test rows as they are kept in a report: every prediction, and a sample with the raw inputs."""

from __future__ import annotations

from collections import defaultdict
from itertools import zip_longest
from typing import TYPE_CHECKING

import pyarrow as pa

from retrainer.formats.columns import class_names
from retrainer.formats.report import predicted_column

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Task

SAMPLE_ROWS = 32
# Of raw inputs in the sample; large photographs make it smaller, but never less than two rows.
SAMPLE_BYTES = 8_000_000
FEWEST_ROWS = 2


def prediction_table(test: pa.Table, predictions: pa.Table, task: Task) -> pa.Table:
    """`origin` and `id` of every test row where it has them, its targets, and what was predicted.

    A predicted column that has the name of one of the task's columns is called `predicted_…`.
    """
    kept = {name: test[name] for name in ("origin", "id", *task.target_columns) if name in test.column_names}
    others = {*kept, *task.input_columns}
    found = {predicted_column(name, others): predictions[name] for name in predictions.column_names}
    return pa.table(kept | found)


def sample_table(test: pa.Table, table: pa.Table, task: Task) -> pa.Table:
    """The sample: raw inputs of some test rows beside what `prediction_table` has of them.

    One row of each class in turn, in the order of the test set, so that it covers as many classes as it can.
    """
    raw = [name for name in task.input_columns if name in test.column_names]
    rows = _affordable(test, raw, _in_turn(class_names(test, task.target_columns) or [[]] * len(test)))
    kept = table.drop_columns([name for name in ("origin", "id") if name in table.column_names]).take(rows)
    inputs = test.take(rows)
    picked = {name: inputs[name] for name in raw} | {name: kept[name] for name in kept.column_names}
    return pa.table({"row": pa.array(rows, pa.int64()), **picked})


def _in_turn(classes: list[list[str]]) -> list[int]:
    """Up to SAMPLE_ROWS row numbers: one of each class (by a row's first) in turn, until there are enough."""
    by_class: dict[str, list[int]] = defaultdict(list)
    for row, names in enumerate(classes):
        by_class[names[0] if names else ""].append(row)
    turns = zip_longest(*(by_class[name] for name in sorted(by_class)))
    return [row for turn in turns for row in turn if row is not None][:SAMPLE_ROWS]


def _affordable(test: pa.Table, raw: list[str], rows: list[int]) -> list[int]:
    """As many of the rows as fit into SAMPLE_BYTES, in the order of the test set."""
    kept: list[int] = []
    left = SAMPLE_BYTES
    for row in rows:
        left -= sum(test[name].slice(row, 1).combine_chunks().nbytes for name in raw)
        if left < 0 and len(kept) >= FEWEST_ROWS:
            break
        kept.append(row)
    return sorted(kept)
