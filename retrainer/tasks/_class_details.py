"""What a report says of classification beyond the common part: `details` of metrics.json.

    per_class    [{"label", "precision", "recall", "f1", "support", "predicted"}]; null where a figure does
                 not exist: no row has the label (recall, f1), or none was given it (precision)
    confusion    {"labels": [...], "cells": [[true index, decided index, rows], ...]}, cells above 0 only;
                 null in multi-label
    roc          [[threshold, false positive rate, recall]]; [] in multi-label. Of two classes the second by
                 name is positive; of more it is the micro-average over all pairs of a row and a class
    calibration  {"temperature", "error", "uncalibrated_error": at temperature 1,
                 "bins": [{"rows", "confidence", "accuracy"}]}, those of the error, without empty ones
    label_errors, embedding_duplicates, checks    see `_class_doubts.py`
    attributions    see `_explained.py`; nearest    see `_nearest_rows.py`
    notes, limits, numbers    see `Task.details`

Legend: N rows, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.metrics import calibration_error
from retrainer.metrics._classes import Classes, classes
from retrainer.metrics.calibration_error import BINS, bins_of
from retrainer.tasks._class_doubts import doubts
from retrainer.tasks._class_explained import explained, nearest_to_mistakes
from retrainer.tasks._embedded import Embedded
from retrainer.tasks._explained import figure
from retrainer.texts import plural

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

# Classes with fewer test rows than this are named among the limits.
FEW_ROWS = 10
_MOST_NAMED = 10
# Points of a ROC curve; a dashboard keeps them in its database.
_MOST_POINTS = 100
# "Nothing is positive": stands for infinity, which JSON lacks.
_ABOVE_ALL = 1.0 + 1e-6


def details(judged: Judged) -> dict[str, Any]:
    """Raises UserError when labels are doubted and `checks.label_errors` is `error`."""
    found = classes(judged.predictions, judged.test)
    table, calibration = per_class(found), calibration_of(found, judged.predictor.temperature)
    embedded, attributed = Embedded(judged), explained(judged, found)
    return {
        "per_class": table,
        "confusion": None if found.multi_label else confusion_of(found),
        "roc": [] if found.multi_label else roc_of(found, len(judged.predictor.labels)),
        "calibration": calibration,
        "notes": [_of_calibration(calibration, judged.uncalibrated)],
        "limits": _of_few_rows(table),
        "numbers": {name: calibration[name] for name in ("temperature", "uncalibrated_error")}
        | figure(attributed),
        "attributions": attributed,
        "nearest": nearest_to_mistakes(judged, found, embedded),
        **doubts(judged, found, embedded),
    }


def per_class(found: Classes) -> list[dict[str, Any]]:
    right = (found.decided & found.targets).sum(axis=0)
    counts = zip(found.names, right, found.decided.sum(axis=0), found.targets.sum(axis=0), strict=True)
    return [_of_class(label, int(hits), int(given), int(had)) for label, hits, given, had in counts]


def _of_class(label: str, hits: int, predicted: int, support: int) -> dict[str, Any]:
    return {
        "label": label,
        "precision": _share(hits, predicted),
        "recall": _share(hits, support),
        "f1": _share(2 * hits, support + predicted) if support else None,
        "support": support,
        "predicted": predicted,
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def confusion_of(found: Classes) -> dict[str, Any]:
    places = found.targets.argmax(axis=1) * len(found.names) + found.decided.argmax(axis=1)
    pairs, counts = np.unique(places, return_counts=True)
    cells = [[*divmod(int(pair), len(found.names)), int(n)] for pair, n in zip(pairs, counts, strict=True)]
    return {"labels": list(found.names), "cells": cells}


def roc_of(found: Classes, known: int) -> list[list[float]]:
    """Over the classes that the model knows, the first `known`."""
    scores, is_so = found.probabilities[:, :known], found.targets[:, :known]
    if known == 2:
        scores, is_so = scores[:, 1], is_so[:, 1]
    yes, no = np.sort(scores[is_so]), np.sort(scores[~is_so])
    if not len(yes) or not len(no):
        return []
    # Half of the points evenly along each axis, down to "everything is positive".
    spread = np.linspace(0, 1, _MOST_POINTS // 2)
    inner = np.unique(np.concatenate([np.quantile(each, spread, method="nearest") for each in (yes, no)]))
    thresholds = [_ABOVE_ALL, *inner[::-1]]
    return [[round(float(t), 6), _share_from(no, t), _share_from(yes, t)] for t in thresholds]


def _share_from(rising: np.ndarray, threshold: float) -> float:
    """The share of the values that are not below the threshold."""
    return round(1.0 - float(np.searchsorted(rising, threshold)) / len(rising), 6)


def calibration_of(found: Classes, temperature: float) -> dict[str, Any]:
    confidence, right = found.confidences
    plain = Classes(
        found.names,
        found.multi_label,
        found.decided,
        found.targets,
        uncalibrated(found.probabilities, temperature, found.multi_label),
    )
    bins = bins_of(confidence)
    inside = [bins == number for number in range(BINS)]
    return {
        "temperature": temperature,
        "error": _error(found),
        "uncalibrated_error": _error(plain),
        "bins": [
            {
                "rows": int(one.sum()),
                "confidence": round(float(confidence[one].mean()), 6),
                "accuracy": round(float(right[one].mean()), 6),
            }
            for one in inside
            if one.any()
        ],
    }


def _error(found: Classes) -> float:
    sums = calibration_error.of_confidences(*found.confidences).sum(axis=0)
    return round(float(calibration_error.value(sums)), 6)


def uncalibrated(probabilities: np.ndarray, temperature: float, multi_label: bool) -> np.ndarray:
    """What the model would have said at temperature 1: float64 [N, K], from probabilities [N, K]."""
    if multi_label:
        never = np.full_like(probabilities, np.inf)
        against = np.divide(1 - probabilities, probabilities, out=never, where=probabilities > 0)
        shares: np.ndarray = 1 / (1 + against**temperature)
        return shares
    powers = probabilities**temperature
    scaled: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return scaled


def _of_calibration(found: dict[str, Any], uncalibrated: str) -> str:
    error = f"Calibration error {found['error']:.4f}"
    if found["temperature"] == 1.0:
        why = f": {uncalibrated}" if uncalibrated else ""
        return f"{error}. The model's confidence was not adjusted (no temperature was fitted{why})."
    return (
        f"{error} at temperature {found['temperature']:.4g}, which was fitted to the validation rows;"
        f" {found['uncalibrated_error']:.4f} without it."
    )


def _of_few_rows(table: list[dict[str, Any]]) -> list[str]:
    few = [one["label"] for one in table if one["support"] < FEW_ROWS]
    if not few:
        return []
    named = ", ".join(few[:_MOST_NAMED]) + (", …" if len(few) > _MOST_NAMED else "")
    what = plural(len(few), "class has", "classes have")
    return [f"{what} fewer than {FEW_ROWS} test rows: {named}."]
