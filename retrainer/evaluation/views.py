"""What a Kubeflow dashboard draws: metadata of its Metrics and ClassificationMetrics artifacts.

The HTML view is report.html itself. Nothing here is read by another step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrainer.formats.report import MOST_IN_MATRIX, confusion_matrix, read_report


def views(report: Path) -> dict[str, dict[str, Any]]:
    """Metadata by port; `confusion` has what the task gives: a matrix, a ROC curve, both, or nothing."""
    content = read_report(report)
    details = content["details"]
    return {"metrics": _metrics(content), "confusion": _matrix(details) | _roc(details)}


def _metrics(content: dict[str, Any]) -> dict[str, Any]:
    """Numbers alone: Kubeflow's MLflow plugin logs a text as 0 (KFP 2.17, metadata/client.go:1491)."""
    found: dict[str, Any] = {}
    for name, figure in content["metrics"].items():
        found |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
    for name, baseline in content["baselines"].items():
        found |= {f"{name}_{metric}": figure["value"] for metric, figure in baseline["metrics"].items()}
    gate = content["gate"]
    found |= {name: value for name, value in content["cost"].items() if value is not None}
    spent = content.get("training_cost") or {}
    found |= {f"training_{name}": value for name, value in spent.items() if not isinstance(value, str)}
    found |= {"p_value": gate["p_value"]} if gate["p_value"] is not None else {}
    return found | {
        **content["details"].get("numbers", {}),
        "test_uses": content["test_set"]["uses"],
        "test_rows": content["rows"],
        "promoted": float(gate["verdict"] == "champion"),
    }


def _matrix(details: dict[str, Any]) -> dict[str, Any]:
    confusion = details.get("confusion")
    if confusion is None or len(confusion["labels"]) > MOST_IN_MATRIX:
        return {}
    counts = confusion_matrix(confusion)
    names = [{"displayName": label} for label in confusion["labels"]]
    return {"confusionMatrix": {"annotationSpecs": names, "rows": [{"row": row} for row in counts]}}


def _roc(details: dict[str, Any]) -> dict[str, Any]:
    names = ("confidenceThreshold", "falsePositiveRate", "recall")
    points = [dict(zip(names, point, strict=True)) for point in details.get("roc") or ()]
    return {"confidenceMetrics": points} if points else {}
