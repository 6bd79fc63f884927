"""What a report says of masks beyond the common part: `details` of metrics.json.

    per_class   [{"label", "iou", "dice", "true", "found", "images"}]: over the pixels of the test rows;
                `true` and `found` are shares of all pixels; `images` have the class; null where
                no test row has it
    confusions  [{"true", "found", "share"}]: of a true class's pixels, the share that is taken for another
    examples    numbers of the test rows that the report draws, the worst first, by their own mean IoU
    notes, limits, numbers    see `Task.details`

Legend: N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.metrics import _masks, mean_iou
from retrainer.tasks._protocol import ClassFigure

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.tasks._protocol import Judged

# Classes that fewer test images show than this are named among the limits.
FEW_IMAGES = 20
_MOST_NAMED = 10
_MOST_CONFUSIONS = 10
_WORST, _BEST = 6, 2


def details(judged: Judged) -> dict[str, Any]:
    names = _masks.class_names(judged.test)
    rows = _masks.confusions(judged.predictions, judged.test)
    table = _per_class(judged.predictor.labels, names, rows)
    return {
        "per_class": table,
        "confusions": _confusions(names, rows.sum(0)),
        "examples": _examples(rows),
        "notes": _notes(rows),
        "limits": _limits(table),
        "numbers": {},
    }


def _per_class(labels: tuple[str, ...], names: list[str], rows: np.ndarray) -> list[dict[str, Any]]:
    """In the order of the names; the model's classes without a true pixel, too."""
    counts = rows.sum(0)
    both, either = np.split(_masks.of_confusions(counts), 2)
    pixels = max(1, int(counts.sum()))
    images = (rows.sum(2) > 0).sum(0)
    known = {
        name: {
            "label": name,
            "iou": _rounded(both[place] / either[place]) if either[place] else None,
            "dice": _rounded(2 * both[place] / (both[place] + either[place])) if either[place] else None,
            "true": _rounded(counts[place].sum() / pixels),
            "found": _rounded(counts[:, place].sum() / pixels),
            "images": int(images[place]),
        }
        for place, name in enumerate(names)
    }
    absent = {"iou": None, "dice": None, "true": 0.0, "found": None, "images": 0}
    return [known.get(label, {"label": label, **absent}) for label in sorted({*labels, *names})]


def _confusions(names: list[str], counts: np.ndarray) -> list[dict[str, Any]]:
    """The pairs of classes with most pixels, by how many they are."""
    given = [*names, "a class that no test row has"]
    wrong = counts.copy()
    np.fill_diagonal(wrong[:, :-1], 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS]
    places = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        {
            "true": names[true],
            "found": given[found],
            "share": _rounded(wrong[true, found] / counts[true].sum()),
        }
        for true, found in places
        if wrong[true, found]
    ]


def _examples(rows: np.ndarray) -> list[int]:
    """Rows by their own mean IoU: the worst, then the best."""
    own = mean_iou.value(_masks.of_confusions(rows))
    order = np.argsort(own, kind="stable").tolist()
    return order if len(order) <= _WORST + _BEST else order[:_WORST] + order[-_BEST:]


def _notes(rows: np.ndarray) -> list[str]:
    own = mean_iou.value(_masks.of_confusions(rows))
    if not len(own):
        return []
    return [
        f"Of one image alone, mean IoU is {np.median(own):.3f} in the median, and {np.quantile(own, 0.1):.3f}"
        " or less for every tenth image."
    ]


def _limits(table: list[dict[str, Any]]) -> list[str]:
    few = [row["label"] for row in table if row["images"] < FEW_IMAGES]
    if not few:
        return []
    more = f" and {len(few) - _MOST_NAMED} more" if len(few) > _MOST_NAMED else ""
    named = ", ".join(few[:_MOST_NAMED]) + more
    return [f"Fewer than {FEW_IMAGES} test images show them, so a figure of their own says little: {named}."]


def _rounded(value: float) -> float:
    return round(float(value), 6)


def class_figures(predictions: pa.Table, truth: pa.Table) -> Mapping[str, ClassFigure]:
    """Each class's intersection over union, over all rows: a pixel of it where there is none counts against
    it."""
    names = _masks.class_names(truth)
    counts = _masks.confusions(predictions, truth)
    both, either = np.split(_masks.of_confusions(counts), 2, axis=1)
    there = counts.sum(2) > 0  # [N, K]
    rows = np.arange(len(counts))
    return {
        name: ClassFigure(
            "IoU", mean_iou, rows, np.stack([both[:, place], either[:, place]], axis=1), there[:, place]
        )
        for place, name in enumerate(names)
    }
