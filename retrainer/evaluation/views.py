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


def views(report: Path) -> dict[str, dict[str, Any]]:
    """Metadata by port: `metrics`, and `confusion` with what these classes allow.

    Up to MOST_IN_MATRIX classes have a confusion matrix; two classes also a ROC curve, whose positive class
    is the second by name. Multi-label has neither.
    """
    content = read_report(report)
    return {"metrics": _metrics(content), "confusion": _matrix(content) | _roc(report, content)}


def _metrics(content: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, figure in content["metrics"].items():
        told |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
    for name, baseline in content["baselines"].items():
        told |= {f"{name}_{metric}": figure["value"] for metric, figure in baseline["metrics"].items()}
    return told | {"test_rows": content["rows"], "verdict": content["gate"]["verdict"]}


def _matrix(content: dict[str, Any]) -> dict[str, Any]:
    confusion = content["confusion"]
    if confusion is None or len(confusion["labels"]) > MOST_IN_MATRIX:
        return {}
    names = [{"displayName": label} for label in confusion["labels"]]
    rows = [{"row": row} for row in matrix(confusion)]
    return {"confusionMatrix": {"annotationSpecs": names, "rows": rows}}


def _roc(report: Path, content: dict[str, Any]) -> dict[str, Any]:
    if content["confusion"] is None or len(content["labels"]) != 2:
        return {}
    table = pq.read_table(report / PREDICTIONS, columns=["labels", "probabilities"])
    scores = np.stack(table["probabilities"].to_numpy())[:, 1].astype(np.float64)
    positive = np.array([row == [content["labels"][1]] for row in table["labels"].to_pylist()])
    if positive.all() or not positive.any():
        return {}
    # From "nothing is positive" (a threshold above 1 stands for infinity, which JSON lacks) to "everything".
    inner = np.unique(np.quantile(scores, np.linspace(0, 1, _MOST_POINTS), method="nearest"))[::-1]
    points = [
        {
            "confidenceThreshold": float(threshold),
            "recall": float((scores[positive] >= threshold).mean()),
            "falsePositiveRate": float((scores[~positive] >= threshold).mean()),
        }
        for threshold in [1.0 + 1e-6, *inner]
    ]
    return {"confidenceMetrics": points}
