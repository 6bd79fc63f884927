"""Evaluation: the model, the baselines and the champion on the same test rows, and the gate's verdict."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from retrainer.errors import UserError
from retrainer.evaluation.answers import Answers
from retrainer.evaluation.data_facts import data_facts
from retrainer.evaluation.doubts import Doubts, doubts
from retrainer.evaluation.gather import gather
from retrainer.evaluation.metrics import measure
from retrainer.evaluation.mistakes import mistakes
from retrainer.evaluation.model_card import model_card
from retrainer.evaluation.overlap import JudgedOn, held_out
from retrainer.evaluation.report import render
from retrainer.evaluation.rivals import (
    Champion,
    ask,
    baseline_figures,
    champion_figures,
    fit_baselines,
    rescore,
    without_known_rows,
)
from retrainer.evaluation.rows import answer_table, sample_table
from retrainer.formats.dataset import Dataset
from retrainer.formats.files import whole_directory, write_json, write_text
from retrainer.formats.model_files import HISTORY, SETTINGS, read_model
from retrainer.formats.profile import FILE as PROFILE
from retrainer.formats.report import CARD, HTML, METRICS, PREDICTIONS, SAMPLE, seal_report
from retrainer.registry.gate import Verdict, judge
from retrainer.settings import Checks, Compute, Evaluation, Gate

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.predict import Predictor

__all__ = ["Champion", "evaluate_model"]

_AS_USUAL = Checks.parse({}, "checks")


def evaluate_model(
    dataset: Path,
    model: Path,
    out: Path,
    evaluation: Evaluation,
    gate: Gate,
    compute: Compute,
    champion: Champion | None,
    name: str = "",
    judged_on: JudgedOn = lambda _: (),
    checks: Checks = _AS_USUAL,
) -> dict[str, Any]:
    """Judges the model directory on the split `test` and writes the report to `out`, whole or not at all.

    `name` is the registered model's, for the title; `judged_on` tells which of its models a test set has
    judged. Returns the content of metrics.json (its schema stands in retrainer/formats/report.py). Raises
    UserError when there are no test rows, the model cannot read them, a slice that is asked for is none, or
    labels are doubted and `checks.label_errors` is `error`.
    """
    from retrainer.predict import Predictor
    from retrainer.training.compute import prepare, resolve_compute

    data = Dataset(dataset)
    train, test = data.split("train"), _test_rows(data)
    _refuse_another_dataset(model, data)
    device = str(prepare(resolve_compute(compute)))
    predictor = Predictor.load(model, device)
    told = ask(predictor, test)
    baselines, missing = fit_baselines(train, test, told.multi_label, evaluation)
    doubted = doubts(predictor, train, test, told, checks)
    del train  # large, and not needed any more
    same = champion is not None and champion.model_sha256 == predictor.model_sha256
    rescored, answered = None, None
    if champion is not None and not same:
        rescored = rescore(champion, test, told.multi_label, device, evaluation)
        answered = champion.directory if rescored.answers else None
    rows = held_out(dataset, test, predictor.model_sha256, answered, judged_on)
    fair = rows.met.fair if rows.met else None
    rescored = rescored and without_known_rows(rescored, fair, evaluation)
    gathered = gather(
        model, test, told, predictor.temperature, rescored, baselines, same, rows, evaluation, gate
    )
    report = {
        "name": name,
        **_about_model(model, predictor),
        "dataset_sha256": data.content_sha256,
        "data": data_facts(data, predictor, test, doubted.checks),
        "rows": told.rows,
        "confidence": evaluation.confidence,
        **measure(told, evaluation),
        "baselines": {one.name: baseline_figures(one, told, evaluation) for one in baselines},
        "no_baseline": missing,
        "champion": champion_figures(champion, rescored, told, fair),
        **gathered.figures,
        "gate": _gate_figures(judge(gate, gathered.evidence), champion),
    }
    _write(out, report, model, test, told, predictor, doubted, dataset)
    return report


def _refuse_another_dataset(model: Path, data: Dataset) -> None:
    """Rows that are test rows here may have been training rows there: such figures would be too good."""
    trained_on = read_model(model)["dataset_sha256"]
    if trained_on != data.content_sha256:
        raise UserError(
            f"{model} was trained on another dataset ({trained_on[:12]}…) than {data.path}"
            f" ({data.content_sha256[:12]}…); run train again"
        )


def _test_rows(data: Dataset) -> pa.Table:
    test = data.split("test")
    if not len(test):
        raise UserError(
            f"{data.path} has no test rows to judge by; set split.test above 0, or source.test_path"
        )
    print(f"evaluate: {len(test):,} test rows", flush=True)
    return test


def _gate_figures(verdict: Verdict, champion: Champion | None) -> dict[str, Any]:
    judged = {"version": champion.version, "model_sha256": champion.model_sha256} if champion else None
    figures = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(verdict).items()
    }
    return figures | {"champion": judged}


def _about_model(model: Path, predictor: Predictor) -> dict[str, Any]:
    """Digest, labels and task of the model, and in a few words what it is and started from."""
    settings = json.loads((model / SETTINGS).read_text(encoding="utf-8"))
    task, backbone, training = (settings.get(name, {}) for name in ("task", "backbone", "training"))
    parts = [backbone.get("family", ""), backbone.get("weights", ""), training.get("strategy", "")]
    return {
        "model_sha256": predictor.model_sha256,
        "labels": list(predictor.labels),
        "task": {"kind": task.get("kind", ""), "multi_label": predictor.task.multi_label},
        "start": " · ".join(part for part in parts if part and part != "none"),
    }


def _write(
    out: Path,
    report: dict[str, Any],
    model: Path,
    test: pa.Table,
    told: Answers,
    predictor: Predictor,
    doubted: Doubts,
    dataset: Path,
) -> None:
    columns = predictor.task.columns
    history = json.loads((model / HISTORY).read_text(encoding="utf-8"))
    table = answer_table(test, told, predictor.labels)
    with whole_directory(out) as aside:
        write_json(aside / METRICS, report)
        pq.write_table(table, aside / PREDICTIONS, compression="zstd")
        pq.write_table(sample_table(test, table, columns), aside / SAMPLE, compression="zstd")
        write_text(aside / HTML, render(report, history, mistakes(test, told, columns), doubted))
        write_text(aside / CARD, model_card(report))
        if (dataset / PROFILE).is_file():  # a dataset of an older version has none
            shutil.copyfile(dataset / PROFILE, aside / PROFILE)
        seal_report(aside)
