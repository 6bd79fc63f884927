"""What a report says of detection beyond the common part: `details` of metrics.json.

    per_class  [{"label", "average_precision_50", "average_precision", "boxes", "found"}]: over the test rows;
               null where no test row has a box of the class. `boxes` are true ones, `found` predicted ones
    curves     {label: [precision at recall 0, 0.05, …, 1]} at an overlap of 0.5
    examples   numbers of the test rows that the report draws, the worst first, by their own AP50
    notes, limits, numbers    see `Task.details`

Legend: N rows, K classes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.metrics import _detection, average_precision, average_precision_50

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.tasks._protocol import Judged

# Classes with fewer true boxes than this are named among the limits.
FEW_BOXES = 30
_MOST_NAMED = 10
_EXAMPLES = 4  # the worst, and as many of the best
_EVERY = 5  # of the 101 recalls
_THRESHOLDS = 10
# Rows whose own AP50 is computed to choose the examples.
_MOST_ROWS = 2000


def details(judged: Judged) -> dict[str, Any]:
    classes = _detection.class_names(judged.test)
    half = average_precision_50.statistics(judged.predictions, judged.test)
    table = per_class(judged, classes)
    curves = {
        name: _rounded(_detection.precisions(one, np.ones((1, len(half))))[0, 0, ::_EVERY])
        for name, one in zip(classes, _detection.ranked(half, 1), strict=False)
    }
    return {
        "per_class": table,
        "curves": curves,
        "examples": _examples(half[:_MOST_ROWS]),
        "notes": [_of_boxes(judged.predictions)],
        "limits": _of_few_boxes(table),
        "numbers": {},
    }


def per_class(judged: Judged, classes: list[str]) -> list[dict[str, Any]]:
    """In the order of the names; classes of the model without a true box, too."""
    statistics = average_precision.statistics(judged.predictions, judged.test)
    ones = np.ones((1, len(statistics)))
    shares = _detection.class_average_precisions(statistics, ones, _THRESHOLDS)[0]
    known = dict(zip(classes, shares, strict=False))
    true, found = (_counts(table) for table in (judged.test, judged.predictions))
    return [
        {
            "label": label,
            "average_precision_50": round(float(known[label][0]), 6) if label in known else None,
            "average_precision": round(float(known[label].mean()), 6) if label in known else None,
            "boxes": true[label],
            "found": found[label],
        }
        for label in sorted({*judged.predictor.labels, *classes})
    ]


def _counts(table: pa.Table) -> Counter[str]:
    return Counter(box["label"] for boxes in table["boxes"].to_pylist() for box in boxes or [])


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]


def _examples(statistics: np.ndarray) -> list[int]:
    """Rows with a true box, by their own AP50: the worst, then the best."""
    own = np.where(_has_truth(statistics), _own(statistics), np.nan)
    order = [int(row) for row in np.argsort(own, kind="stable") if not np.isnan(own[row])]
    return order if len(order) <= 2 * _EXAMPLES else order[:_EXAMPLES] + order[-_EXAMPLES:]


def _own(statistics: np.ndarray) -> np.ndarray:
    """[N]: each row's AP50 when it is alone."""
    return _detection.value_of_rows(statistics, np.eye(len(statistics)), 1)


def _has_truth(statistics: np.ndarray) -> np.ndarray:
    triples = statistics.reshape(len(statistics), -1, 3)
    return ((triples[..., 0] > 0) & (triples[..., 1] == _detection.TRUTH)).any(1)


def _of_boxes(predictions: pa.Table) -> str:
    counts = [len(boxes or []) for boxes in predictions["boxes"].to_pylist()]
    return (
        f"The model finds {np.mean(counts):.1f} boxes an image, most of them with low scores: average"
        " precision ranks them all. To use the model, choose a least score by the curves below."
    )


def _of_few_boxes(table: list[dict[str, Any]]) -> list[str]:
    few = [row["label"] for row in table if row["boxes"] < FEW_BOXES]
    if not few:
        return []
    named = ", ".join(few[:_MOST_NAMED]) + (
        f" and {len(few) - _MOST_NAMED} more" if len(few) > _MOST_NAMED else ""
    )
    return [f"Fewer than {FEW_BOXES} test boxes, so a figure of their own says little: {named}."]
