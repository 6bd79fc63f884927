"""The test rows as they are kept in a report: every answer, and a sample with the raw inputs.

Legend: N rows, K labels of the model.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import zip_longest

import numpy as np
import pyarrow as pa

from retrainer.evaluation.answers import Answers

SAMPLE_ROWS = 32
# Of raw inputs in the sample; large photographs make it smaller, but never less than two rows.
SAMPLE_BYTES = 8_000_000
FEWEST_ROWS = 2


def answer_table(test: pa.Table, answers: Answers, labels: tuple[str, ...]) -> pa.Table:
    """`labels`, `decided`, `correct`, `probabilities` of every test row, and its `origin` and `id` if any."""
    kept = {name: test[name] for name in ("origin", "id") if name in test.column_names}
    names = pa.list_(pa.string())
    flat = np.ascontiguousarray(answers.probabilities[:, : len(labels)], dtype=np.float32).ravel()
    return pa.table(
        {
            **kept,
            "labels": pa.array([answers.wanted(row) for row in range(answers.rows)], names),
            "decided": pa.array([answers.names(row) for row in range(answers.rows)], names),
            "correct": pa.array(answers.correct),
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(flat), len(labels)),
        }
    )


def sample_table(test: pa.Table, told: pa.Table, columns: tuple[str, ...]) -> pa.Table:
    """The sample: raw inputs from `test` (those of `columns` it has) beside the answers of `answer_table`.

    One row of each class in turn, in the order of the test set, so that it covers as many classes as it can.
    """
    raw = [name for name in columns if name in test.column_names]
    rows = _affordable(test, raw, _in_turn(told["labels"].to_pylist()))
    answered = told.drop_columns([name for name in ("origin", "id") if name in told.column_names])
    inputs = test.take(rows)
    picked = {name: inputs[name] for name in raw} | dict(
        zip(answered.column_names, answered.take(rows), strict=True)
    )
    return pa.table({"row": pa.array(rows, pa.int64()), **picked})


def _in_turn(labels: list[list[str]]) -> list[int]:
    """Up to SAMPLE_ROWS row numbers: one of each class (by first label) in turn, until there are enough."""
    by_class: dict[str, list[int]] = defaultdict(list)
    for row, names in enumerate(labels):
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
