"""The training rows that are nearest to a mistake by the model's own features, and whom they support.

    [{"row": test row, "rows": [[training row, cosine]], the nearest first,
      "truth", "answer": how many of them have the labels that the row has, or that the model gave}]

Legend: N mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.tasks._neighbours import nearest_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.tasks._embedded import Embedded

COUNT = 3

Nearest = dict[str, Any]


def nearest_of(embedded: Embedded, rows: Sequence[int] | np.ndarray) -> list[Nearest]:
    """Of each test row; without `truth` and `answer`, which only classes have."""
    numbers = np.asarray(rows, np.int64)
    if not len(numbers):
        return []
    cosines, which = nearest_rows(embedded.test[numbers], embedded.train, COUNT)
    return [
        {
            "row": int(row),
            "rows": [
                [int(embedded.rows[place]), round(float(cosine), 4)]
                for place, cosine in zip(places, near, strict=True)
            ],
        }
        for row, places, near in zip(numbers, which, cosines, strict=True)
    ]


def supported(near: Nearest, train: pa.Table, truth: list[str], answer: list[str]) -> Nearest:
    """The same with the number of rows that have each one's labels."""
    labels = [set(train["labels"][row].as_py() or ()) for row, _ in near["rows"]]
    return near | {"truth": labels.count(set(truth)), "answer": labels.count(set(answer))}


def verdict(near: Nearest) -> str:
    """In a sentence, whom the nearest training rows support.

    Their agreement with the answer proves no label wrong: features that the model was trained on lie near the
    class that it answers (docs/interpretability.md has the figures)."""
    count, truth, answer = len(near["rows"]), near["truth"], near["answer"]
    all_of = (
        f"All {count} most similar training rows have" if count > 1 else "The most similar training row has"
    )
    if answer == count:
        return f"{all_of} the label that the model answered."
    if truth == count:
        return f"{all_of} the true label, against the model's answer."
    return (
        f"Of the {count} most similar training rows {answer} have the answer's label, {truth} the true one."
    )
