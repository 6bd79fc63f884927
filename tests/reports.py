"""Reports made from predictions alone, without a model's files: what people read is tested with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrainer.evaluation.measurements import Measurements, evidence_of, figures_of, verdict_figures
from retrainer.evaluation.opponents import Opponent, baseline_of
from retrainer.evaluation.parts import Parts, parts_of
from retrainer.evaluation.request import Request
from retrainer.evaluation.slices import slice_rows
from retrainer.gate.evidence import Champion
from retrainer.gate.scores import scores_of
from retrainer.gate.verdict import judge
from retrainer.overlap import HeldOut
from retrainer.settings import Checks, Compute, Evaluation, Gate, Task
from retrainer.tasks import text_classification
from retrainer.tasks._class_baselines import majority
from retrainer.tasks._class_panels import panels
from retrainer.tasks._protocol import Baseline, Judged
from retrainer.tasks.text_classification import TextClassification
from tests.predictions import Tables, answered

QUICK = Evaluation(resamples=100, explain=0)
NOT_LOOKED = Checks.parse({"label_errors": "off", "near_duplicates": "off"}, "checks")
HELD = Champion("3", "c" * 64, Path("nowhere"))


@dataclass(frozen=True)
class Asked:
    """Of a predictor what the task's part of a report reads."""

    task: TextClassification
    temperature: float = 1.5
    model_sha256: str = "d" * 64

    @property
    def labels(self) -> tuple[str, ...]:
        return self.task.labels


def told_of(labels: tuple[str, ...], rows: int = 90, skill: float = 1.5, several: bool = False) -> Tables:
    """Predictions and rows with texts."""
    draw = np.random.default_rng(3)
    truth = draw.integers(0, len(labels), rows)
    logits = draw.normal(size=(rows, len(labels)))
    logits[np.arange(rows), truth] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return with_texts(answered(probabilities, labels, [[labels[n]] for n in truth], several))


def with_texts(tables: Tables, text: str = "some words") -> Tables:
    predictions, rows = tables
    return predictions, rows.append_column("text", pa.array([f"{text} {n}" for n in range(len(rows))]))


def opposite(tables: Tables) -> pa.Table:
    """Predictions that are right where the others are wrong."""
    predictions, rows = tables
    name = "labels" if "labels" in predictions.column_names else "label"
    names = [field.name for field in predictions["probabilities"].type]
    truth, given = rows["labels"].to_pylist(), predictions[name].to_pylist()
    turned = []
    for had, one in zip(truth, given, strict=True):
        right = set(had) == ({one} if isinstance(one, str) else set(one))
        turned.append([next(n for n in names if n not in had)] if right else had)
    column = pa.array([one[0] for one in turned] if name == "label" else turned)
    return predictions.set_column(predictions.column_names.index(name), name, column)


def judged_of(tables: Tables, checks: Checks = NOT_LOOKED, temperature: float = 1.5) -> Judged:
    predictions, rows = tables
    labels = tuple(field.name for field in predictions["probabilities"].type)
    several = "labels" in predictions.column_names
    task = text_classification.make(Task(multi_label=several), labels)
    return Judged(Asked(task, temperature), rows, rows, predictions, QUICK, checks)


def report_of(
    tables: Tables, champion: pa.Table | None = None, note: str = "", name: str = "a model", **gate: Any
) -> dict[str, Any]:
    """metrics.json of a model that is as good as the cheap baseline, and beside it these of a champion."""
    judged = judged_of(tables)
    task, chosen = judged.predictor.task, Gate(**gate)
    scores = scores_of(task, chosen.metric)
    equal = Baseline("tfidf_linear", "TF-IDF + logistic regression", tables[0], 9, "fitted on 9 of 99 rows")
    baselines = [majority(judged.train, len(judged.test), task.multi_label), equal]
    against = [(one, baseline_of(one, judged, scores)) for one in baselines]
    opponent, slices, parts = None, slice_rows(judged, chosen), Parts()
    if champion is not None:
        both = task.comparable(tables[0], champion)
        labels = tuple(field.name for field in champion["probabilities"].type)
        opponent = Opponent(scores.pairs(*both, judged.test), note, labels, both)
        parts = parts_of(judged, opponent, None, slices, scores)
    found = Measurements(
        judged=judged,
        details=task.details(judged),
        scores=scores,
        measured=scores.measured(*tables),
        baselines=against,
        no_baseline="",
        rows=HeldOut("f" * 64, 1, None),
        champion=opponent,
        slices=slices,
        parts=parts,
        anchor=None,
        first=champion is None,
    )
    held = HELD if champion is not None else None
    place = Path("nowhere")
    request = Request(place, place, place, QUICK, chosen, Compute(), held, name)
    evidence = evidence_of(request, found)
    rows = len(judged.test)
    return {
        "name": name,
        "start": "mlp · scratch",
        "model_sha256": "d" * 64,
        "dataset_sha256": "e" * 64,
        "task": {"kind": "text_classification", "multi_label": task.multi_label},
        "labels": list(task.labels),
        "rows": rows,
        "confidence": 0.95,
        "data": {
            "rows": {"test": rows},
            "dropped": {},
            "checks": [],
            "max_length": None,
            "cut_rows": None,
        },
        **figures_of(request, found, evidence),
        "gate": verdict_figures(judge(chosen, evidence), held),
        "details": found.details,
    }


def panels_of(tables: Tables, report: dict[str, Any]) -> list[str]:
    return panels(judged_of(tables), report["details"])


EVIL = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style></title><iframe>", "a & b'")
HISTORY = [
    {
        "epoch": n,
        "train_loss": 1 / n,
        "validation_loss": 1.1 / n,
        "validation_accuracy": 1 - 0.3 / n,
        "kept": n == 3,
    }
    for n in range(1, 6)
]
