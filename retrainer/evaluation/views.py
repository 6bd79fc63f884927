"""What a Kubeflow dashboard draws: metadata of its Metrics and ClassificationMetrics artifacts.

The HTML view is report.html itself. Nothing here is read by another step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from retrainer.evaluation.classes import MOST_IN_MATRIX, matrix
from retrainer.formats.report import PREDICTIONS, read_report

# Points of a ROC curve; the dashboard keeps metadata in its database.
_MOST_POINTS = 100
# "Nothing is positive": stands for infinity, which JSON lacks.
_ABOVE_ALL = 1.0 + 1e-6


def views(report: Path) -> dict[str, dict[str, Any]]:
    """Metadata by port: `metrics`, and `confusion` with what these classes allow.

    Up to MOST_IN_MATRIX classes have a confusion matrix. The ROC curve of two classes takes the second by
    name as positive; that of more is the micro-average: each row asks of each class whether it is this one.
    Multi-label has neither.
    """
    content = read_report(report)
    return {"metrics": _metrics(content), "confusion": _matrix(content) | _roc(report, content)}


def _metrics(content: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, figure in content["metrics"].items():
        told |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
    for name, baseline in content["baselines"].items():
        told |= {f"{name}_{metric}": figure["value"] for metric, figure in baseline["metrics"].items()}
    calibration, gate = content["calibration"], content["gate"]
    told |= {name: value for name, value in content["cost"].items() if value is not None}
    told |= {"p_value": gate["p_value"]} if gate["p_value"] is not None else {}
    return told | {
        "temperature": calibration["temperature"],
        "uncalibrated_error": calibration["uncalibrated_error"],
        "test_uses": content["test_set"]["uses"],
        "test_rows": content["rows"],
        # Numbers alone: Kubeflow's MLflow plugin logs a text as 0 (KFP 2.17, metadata/client.go:1491).
        "promoted": float(gate["verdict"] == "champion"),
    }


def _matrix(content: dict[str, Any]) -> dict[str, Any]:
    confusion = content["confusion"]
    if confusion is None or len(confusion["labels"]) > MOST_IN_MATRIX:
        return {}
    names = [{"displayName": label} for label in confusion["labels"]]
    rows = [{"row": row} for row in matrix(confusion)]
    return {"confusionMatrix": {"annotationSpecs": names, "rows": rows}}


def _roc(report: Path, content: dict[str, Any]) -> dict[str, Any]:
    if content["confusion"] is None:
        return {}
    yes, no = _scores(report, content["labels"])
    if not len(yes) or not len(no):
        return {}
    # Half of the points evenly along each axis, down to "everything is positive".
    spread = np.linspace(0, 1, _MOST_POINTS // 2)
    inner = np.unique(np.concatenate([np.quantile(each, spread, method="nearest") for each in (yes, no)]))
    points = [
        {
            "confidenceThreshold": float(threshold),
            "recall": _share_from(yes, threshold),
            "falsePositiveRate": _share_from(no, threshold),
        }
        for threshold in [_ABOVE_ALL, *inner[::-1]]
    ]
    return {"confidenceMetrics": points}


def _scores(report: Path, labels: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of what is so, and of what is not, each in rising order."""
    table = pq.read_table(report / PREDICTIONS, columns=["labels", "probabilities"])
    scores = np.stack(table["probabilities"].to_numpy()).astype(np.float64)  # [rows, classes]
    place = {label: number for number, label in enumerate(labels)}
    wanted = np.array([place.get(label, -1) for (label,) in table["labels"].to_pylist()])  # -1: unknown to it
    is_so = wanted[:, None] == np.arange(len(labels))
    if len(labels) == 2:
        scores, is_so = scores[:, 1], is_so[:, 1]
    return np.sort(scores[is_so]), np.sort(scores[~is_so])


def _share_from(rising: np.ndarray, threshold: float) -> float:
    """The share of the values that are not below the threshold."""
    return 1.0 - float(np.searchsorted(rising, threshold)) / len(rising)
