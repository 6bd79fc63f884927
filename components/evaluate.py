"""Evaluation: the model, the baselines and the champion on the same test rows, and the gate's verdict."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from retrainer.contract import (
    ClassificationView,
    HtmlView,
    InDataset,
    InModel,
    Metadata,
    MetricsView,
    OutArtifact,
)
from retrainer.services.scratch import scratch_directory
from retrainer.settings import Checks, Compute, Evaluation, Gate, Registry


def evaluate(
    dataset: InDataset,
    model: InModel,
    report: OutArtifact,
    html: HtmlView,
    metrics: MetricsView,
    confusion: ClassificationView,
    checks: Checks,
    evaluation: Evaluation,
    gate: Gate,
    registry: Registry,
    compute: Compute,
) -> Metadata:
    """Model and test rows → report with a verdict. Impure: it reads the registry's champion."""
    from retrainer.evaluation.evaluate import Request, evaluate_model
    from retrainer.formats.model_files import read_model
    from retrainer.registry.champion import fetch_anchor, fetch_champion
    from retrainer.registry.standing import decision_on
    from retrainer.services.kept_features import features_of
    from retrainer.services.lookup import judgements
    from retrainer.services.trainings import cost_of_model
    from retrainer.training.compute import for_scoring

    sha256 = read_model(model)["model_sha256"]
    with scratch_directory() as scratch:
        champion = fetch_champion(registry.name, scratch)
        request = Request(
            dataset,
            model,
            report,
            evaluation,
            gate,
            for_scoring(compute),
            champion=champion,
            anchor=fetch_anchor(registry.name, champion, scratch),
            name=registry.name,
            judgements=partial(judgements, registry.name),
            checks=checks,
            training_cost=cost_of_model(sha256, evaluation.cost),
            decision=decision_on(registry.name, sha256),
            train_features=features_of(sha256),
        )
        verdict = evaluate_model(request)["gate"]["verdict"]
    ports = {"html": html, "metrics": metrics, "confusion": confusion}
    return {"report": {"verdict": verdict}, **_shown(report, ports)}


def _shown(report: Path, ports: Mapping[str, Path | None]) -> Metadata:
    """Of each view that a dashboard asks for, what it draws; the page lies at the port `html`."""
    from retrainer.evaluation.views import views

    page, found = ports["html"], views(report)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_bytes((report / "report.html").read_bytes())
    return {port: found.get(port, {}) for port, path in ports.items() if path is not None}
