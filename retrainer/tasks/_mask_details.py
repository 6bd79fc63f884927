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
    counts: np.ndarray = np.zeros((len(names), len(names) + 1), np.int64)
    images: np.ndarray = np.zeros(len(names), np.int64)
    each = []
    for one in _masks.confusions(judged.predictions, judged.test):
        counts += one
        images += one.sum(1) > 0
        each.append(float(mean_iou.value(_masks.of_confusion(one))))
    table = _per_class(judged.predictor.labels, names, counts, images)
    return {
        "per_class": table,
        "confusions": _confusions(names, counts),
        "examples": _examples(each),
        "notes": _notes(each),
        "limits": _limits(table),
        "numbers": {},
    }


def _per_class(
    labels: tuple[str, ...], names: list[str], counts: np.ndarray, images: np.ndarray
) -> list[dict[str, Any]]:
    """In the order of the names; the model's classes without a true pixel, too."""
    both, either = np.split(_masks.of_confusion(counts), 2)
    pixels = max(1, int(counts.sum()))
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


def _examples(each: list[float]) -> list[int]:
    """Rows by their own mean IoU: the worst, then the best."""
    order = np.argsort(each, kind="stable").tolist()
    return order if len(order) <= _WORST + _BEST else order[:_WORST] + order[-_BEST:]


def _notes(each: list[float]) -> list[str]:
    if not each:
        return []
    return [
        f"Of one image alone, mean IoU is {np.median(each):.3f} in the median, and"
        f" {np.quantile(each, 0.1):.3f} or less for every tenth image."
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
    counts, having = [], []
    for one in _masks.confusions(predictions, truth):
        counts.append(_masks.of_confusion(one))
        having.append(one.sum(1) > 0)
    if not counts:
        return {}
    both, either = np.split(np.stack(counts), 2, axis=1)
    there = np.stack(having)  # [N, K]
    rows = np.arange(len(counts))
    return {
        name: ClassFigure(
            "IoU", mean_iou, rows, np.stack([both[:, place], either[:, place]], axis=1), there[:, place]
        )
        for place, name in enumerate(names)
    }
