"""Evaluation: the model, the baselines and the champion on the same test rows, and the gate's verdict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from retrainer.errors import DataError, ModelError
from retrainer.evaluation.data_facts import data_facts
from retrainer.evaluation.data_figures import months_of
from retrainer.evaluation.measurements import evidence_of, figures_of, measurements_of, verdict_figures
from retrainer.evaluation.membership import membership
from retrainer.evaluation.model_card import model_card
from retrainer.evaluation.privacy import privacy_facts
from retrainer.evaluation.report import render
from retrainer.evaluation.request import Request
from retrainer.evaluation.rows import prediction_table, sample_table
from retrainer.evaluation.since import SCRATCH, Sections, settings_of, since_champion
from retrainer.formats.columns import with_source_names
from retrainer.formats.dataset import SOURCE_NAMES, Dataset
from retrainer.formats.files import whole_directory, write_json, write_text
from retrainer.formats.model_files import HISTORY, read_model
from retrainer.formats.profile import FILE as PROFILE
from retrainer.formats.report import CARD, HTML, METRICS, PREDICTIONS, SAMPLE, seal_report
from retrainer.gate.verdict import judge
from retrainer.messages import logger
from retrainer.overlap import JudgedRows
from retrainer.services.runs import param_text
from retrainer.tasks._protocol import Judged

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from retrainer.predict import Predictor

__all__ = ["Request", "evaluate_model"]


def evaluate_model(request: Request) -> dict[str, Any]:
    """Judges the model directory on the split `test` and writes the report, whole or not at all.

    Returns the content of metrics.json (its schema stands in retrainer/formats/report.py). Raises UserError
    when there are no test rows, the model cannot read them, a metric or slice that is asked for is none, or
    labels are doubted and `checks.label_errors` is `error`.
    """
    data = Dataset(request.dataset)
    _refuse_another_dataset(request.model, data)
    settings = settings_of(request.model)
    judged, rows = _predicted(request, data, settings)
    found = measurements_of(request, judged, rows)
    months = months_of(request.champion, data)
    evidence = evidence_of(request, found, months)
    report = {
        "name": request.name,
        **_about_model(settings, judged),
        "dataset_sha256": data.content_sha256,
        "data": data_facts(data, judged, found.details) | {"figures": months.now.plain()},
        "rows": len(judged.test),
        "device": judged.predictor.device.type,
        "confidence": request.evaluation.confidence,
        **figures_of(request, found, evidence),
        "since": since_champion(request.champion, settings, months),
        "privacy": privacy_facts(request),
        "membership": membership(judged),
        "gate": verdict_figures(judge(request.gate, evidence), request.champion),
        "details": found.details,
    }
    _write(request, report, judged, data.manifest.get(SOURCE_NAMES, {}))
    return report


def _predicted(request: Request, data: Dataset, settings: Sections) -> tuple[Judged, JudgedRows]:
    """The model's predictions of the test rows that it has not learned from, and which those are."""
    from retrainer.predict import Predictor
    from retrainer.training.compute import prepare, resolve_compute
    from retrainer.uncalibrated import why_none

    train, test = data.split("train"), _test_rows(data)
    predictor = Predictor.load(request.model, str(prepare(resolve_compute(request.compute))))
    rows = JudgedRows.of(request.dataset, len(test), request.model)
    test = test if rows.kept.all() else test.filter(rows.kept)
    predictions, features = _with_features(predictor, test)
    uncalibrated = why_none(settings.get("training", {}), data.manifest["rows"].get("validation", 0))
    asked, kept = (request.evaluation, request.checks), request.train_features
    if kept is not None and kept.shape != (len(train), predictor.network.description.width):
        kept = None
    return Judged(predictor, train, test, predictions, *asked, uncalibrated, features, kept), rows


def _with_features(predictor: Predictor, test: pa.Table) -> tuple[pa.Table, np.ndarray | None]:
    """The predictions, and in the same pass the features, which the report searches for similar rows by."""
    if "features" in predictor.task.abilities:
        return predictor.predict_and_features(test)
    return predictor.judge(test), None


def _refuse_another_dataset(model: Path, data: Dataset) -> None:
    """Rows that are test rows here may have been training rows there: such figures would be too good."""
    trained_on = read_model(model)["dataset_sha256"]
    if trained_on != data.content_sha256:
        raise ModelError(
            f"{model} was trained on another dataset ({trained_on[:12]}…) than {data.path}"
            f" ({data.content_sha256[:12]}…); run train again"
        )


def _test_rows(data: Dataset) -> pa.Table:
    test = data.split("test")
    if not len(test):
        raise DataError(
            f"{data.path} has no test rows to judge by; set split.test above 0, or source.test_path"
        )
    logger("evaluate").info("%s test rows", f"{len(test):,}")
    return test


def _about_model(settings: Sections, judged: Judged) -> dict[str, Any]:
    """Digest, classes and task of the model, and in a few words what it is and started from."""
    task, backbone, training = (settings.get(name, {}) for name in ("task", "backbone", "training"))
    strategy = training.get("strategy", "")
    how = "trained from scratch" if strategy == SCRATCH else strategy
    parts = [backbone.get("family", ""), backbone.get("weights", ""), how]
    return {
        "model_sha256": judged.predictor.model_sha256,
        "labels": list(judged.predictor.labels),
        "task": {"kind": task.get("kind", ""), "multi_label": bool(task.get("multi_label"))},
        "start": " · ".join(part for part in parts if part and part != "none"),
        "settings": _trained_by(settings),
    }


def _trained_by(settings: Sections) -> dict[str, str]:
    """`section.key` → value, of what is neither off nor empty."""
    return {
        f"{section}.{key}": param_text(value)
        for section in ("task", "backbone", "training")
        for key, value in settings.get(section, {}).items()
        if value is not None and value is not False and value not in ("", [], {})
    }


def _write(request: Request, report: dict[str, Any], judged: Judged, names: dict[str, str]) -> None:
    task = judged.predictor.task
    history = json.loads((request.model / HISTORY).read_text(encoding="utf-8"))
    table = prediction_table(judged.test, judged.predictions, task)
    sample = with_source_names(sample_table(judged.test, table, task), names)
    with whole_directory(request.out) as aside:
        write_json(aside / METRICS, report)
        pq.write_table(table, aside / PREDICTIONS, compression="zstd")
        pq.write_table(sample, aside / SAMPLE, compression="zstd")
        write_text(aside / HTML, render(report, history, task.panels(judged, report)))
        write_text(aside / CARD, model_card(report))
        if (request.dataset / PROFILE).is_file():  # a dataset of an older version has none
            shutil.copyfile(request.dataset / PROFILE, aside / PROFILE)
        seal_report(aside)
