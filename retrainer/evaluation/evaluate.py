"""Evaluation: the model, the baselines and the champion on the same test rows, and the gate's verdict."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from retrainer.errors import UserError
from retrainer.evaluation.cost import latency_ms
from retrainer.evaluation.data_facts import data_facts
from retrainer.evaluation.model_card import model_card
from retrainer.evaluation.opponents import (
    Opponent,
    baseline_figures,
    baseline_of,
    champion_figures,
    champion_of,
    on_unseen_rows,
)
from retrainer.evaluation.report import render
from retrainer.evaluation.rows import prediction_table, sample_table
from retrainer.evaluation.slices import slice_figures
from retrainer.formats.dataset import Dataset
from retrainer.formats.files import whole_directory, write_json, write_text
from retrainer.formats.model_files import HISTORY, SETTINGS, model_mb, read_model
from retrainer.formats.profile import FILE as PROFILE
from retrainer.formats.report import CARD, HTML, METRICS, PREDICTIONS, SAMPLE, seal_report
from retrainer.gate.evidence import Champion, Evidence
from retrainer.gate.intervals import figures
from retrainer.gate.measured import Measured
from retrainer.gate.scores import Scores, scores_of
from retrainer.gate.verdict import Verdict, judge
from retrainer.overlap import HeldOut, JudgedOn, held_out
from retrainer.settings import Checks, Compute, Evaluation, Gate
from retrainer.tasks._protocol import Baseline, Judged

if TYPE_CHECKING:
    import pyarrow as pa

_AS_USUAL = Checks.parse({}, "checks")


@dataclass(frozen=True)
class Request:
    """What is judged, by which rules, and where the report goes.

    `name` is the registered model's, for the title; `judged_on` says which of its models a test set judged.
    """

    dataset: Path
    model: Path
    out: Path
    evaluation: Evaluation
    gate: Gate
    compute: Compute
    champion: Champion | None = None
    name: str = ""
    judged_on: JudgedOn = lambda _: ()
    checks: Checks = _AS_USUAL


@dataclass(frozen=True)
class Findings:
    """What was measured on the test rows, before the gate judges it. `details` are the task's own.

    `champion` is None without one, or when the judged model is it; `compared` is the champion on the rows
    that it was never trained on.
    """

    judged: Judged
    details: dict[str, Any]
    scores: Scores
    measured: dict[str, Measured]
    baselines: list[tuple[Baseline, Opponent]]
    no_baseline: str
    rows: HeldOut
    champion: Opponent | None
    compared: Opponent | None


def evaluate_model(request: Request) -> dict[str, Any]:
    """Judges the model directory on the split `test` and writes the report, whole or not at all.

    Returns the content of metrics.json (its schema stands in retrainer/formats/report.py). Raises UserError
    when there are no test rows, the model cannot read them, a metric or slice that is asked for is none, or
    labels are doubted and `checks.label_errors` is `error`.
    """
    data = Dataset(request.dataset)
    judged = _predicted(request, data)
    found = _findings(request, judged)
    evidence = _evidence(request, found)
    report = {
        "name": request.name,
        **_about_model(request.model, judged),
        "dataset_sha256": data.content_sha256,
        "data": data_facts(data, judged, found.details),
        "rows": len(judged.test),
        "confidence": request.evaluation.confidence,
        **_figures(request, found, evidence),
        "gate": _gate_figures(judge(request.gate, evidence), request.champion),
        "details": found.details,
    }
    _write(request, report, judged)
    return report


def _predicted(request: Request, data: Dataset) -> Judged:
    """The model's predictions of the test rows."""
    from retrainer.predict import Predictor
    from retrainer.training.compute import prepare, resolve_compute

    train, test = data.split("train"), _test_rows(data)
    _refuse_another_dataset(request.model, data)
    predictor = Predictor.load(request.model, str(prepare(resolve_compute(request.compute))))
    return Judged(predictor, train, test, predictor.predict(test), request.evaluation, request.checks)


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


def _findings(request: Request, judged: Judged) -> Findings:
    task, scores = judged.predictor.task, scores_of(judged.predictor.task.metrics, request.gate.metric)
    measured = scores.measured(judged.predictions, judged.test)
    if not len(judged.train):
        raise UserError("the dataset has no training rows, so there is no baseline; lower split.test")
    baselines = task.baselines(judged.train, judged.test, request.evaluation)
    details = task.details(judged)
    champion = _champion(request, judged, scores)
    met = request.champion.directory if request.champion and champion and champion.pairs else None
    sha256 = judged.predictor.model_sha256
    rows = held_out(request.dataset, judged.test, sha256, met, request.judged_on)
    compared = champion and on_unseen_rows(champion, rows.met.unseen if rows.met else None)
    against = [(one, baseline_of(one, judged, scores)) for one in baselines.found]
    return Findings(judged, details, scores, measured, against, baselines.missing, rows, champion, compared)


def _champion(request: Request, judged: Judged, scores: Scores) -> Opponent | None:
    champion = request.champion
    if champion is None or champion.model_sha256 == judged.predictor.model_sha256:
        return None
    return champion_of(champion, judged, scores)


def _evidence(request: Request, found: Findings) -> Evidence:
    """A time is measured only where the gate has a limit for it: it is new every time, and a report that
    nobody asked for a time stays the same to the byte. Raises UserError for a slice that there is not."""
    chosen, met, compared = found.scores.chosen, found.rows.met, found.compared
    pairs = [opponent.pairs[chosen] for _, opponent in found.baselines]
    errors = found.measured.get("calibration_error")
    return Evidence(
        candidate=found.measured[chosen],
        metric=chosen,
        headline=chosen == found.scores.headline,
        champion=found.champion.pairs[chosen] if found.champion and compared and compared.pairs else None,
        incomparable=compared.note if compared and not compared.pairs else "",
        unseen_by_champion=met.unseen if met else None,
        new=met.new if met else None,
        trivial=pairs[0] if pairs else None,
        baseline=pairs[1] if len(pairs) > 1 else None,
        is_champion=request.champion is not None and found.champion is None,
        slices=slice_figures(found.judged, found.measured[chosen], request.gate.slice_floors),
        calibration_error=None if errors is None else round(errors.value, 6),
        latency_ms=latency_ms(request.model, found.judged.test) if request.gate.max_latency_ms else None,
        model_mb=model_mb(request.model),
        test_uses=found.rows.uses,
    )


def _figures(request: Request, found: Findings, evidence: Evidence) -> dict[str, Any]:
    """The common part of metrics.json that was measured."""
    scores, settings = found.scores, request.evaluation
    return {
        "headline": scores.chosen,
        "metrics": figures(found.measured, settings),
        "about": scores.about(getattr(found.judged.predictor.task, "titles", {})),
        "baselines": {
            one.name: baseline_figures(one, number == 0, against, scores, settings)
            for number, (one, against) in enumerate(found.baselines)
        },
        "no_baseline": found.no_baseline,
        "champion": champion_figures(request.champion, found.compared, scores, settings),
        "slices": [asdict(one) for one in evidence.slices],
        "test_set": found.rows.plain(),
        "cost": {"latency_ms": evidence.latency_ms, "model_mb": evidence.model_mb},
    }


def _gate_figures(verdict: Verdict, champion: Champion | None) -> dict[str, Any]:
    judged = {"version": champion.version, "model_sha256": champion.model_sha256} if champion else None
    plain = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(verdict).items()
    }
    return plain | {"champion": judged}


def _about_model(model: Path, judged: Judged) -> dict[str, Any]:
    """Digest, classes and task of the model, and in a few words what it is and started from."""
    settings = json.loads((model / SETTINGS).read_text(encoding="utf-8"))
    task, backbone, training = (settings.get(name, {}) for name in ("task", "backbone", "training"))
    parts = [backbone.get("family", ""), backbone.get("weights", ""), training.get("strategy", "")]
    return {
        "model_sha256": judged.predictor.model_sha256,
        "labels": list(judged.predictor.labels),
        "task": {"kind": task.get("kind", ""), "multi_label": bool(task.get("multi_label"))},
        "start": " · ".join(part for part in parts if part and part != "none"),
    }


def _write(request: Request, report: dict[str, Any], judged: Judged) -> None:
    task = judged.predictor.task
    history = json.loads((request.model / HISTORY).read_text(encoding="utf-8"))
    table = prediction_table(judged.test, judged.predictions, task.target_columns)
    sample = sample_table(judged.test, table, task)
    with whole_directory(request.out) as aside:
        write_json(aside / METRICS, report)
        pq.write_table(table, aside / PREDICTIONS, compression="zstd")
        pq.write_table(sample, aside / SAMPLE, compression="zstd")
        write_text(aside / HTML, render(report, history, task.panels(judged, report)))
        write_text(aside / CARD, model_card(report))
        if (request.dataset / PROFILE).is_file():  # a dataset of an older version has none
            shutil.copyfile(request.dataset / PROFILE, aside / PROFILE)
        seal_report(aside)
