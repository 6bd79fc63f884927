"""What is measured on the test rows, and what the gate and metrics.json get of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from retrainer.errors import UserError
from retrainer.evaluation.cost import latency_ms
from retrainer.evaluation.opponents import (
    Opponent,
    baseline_figures,
    baseline_of,
    champion_figures,
    champion_of,
    on_unseen_rows,
)
from retrainer.evaluation.request import Request
from retrainer.evaluation.slices import slice_figures
from retrainer.formats.model_files import model_mb
from retrainer.gate.evidence import Champion, Evidence
from retrainer.gate.intervals import figures
from retrainer.gate.measured import Measured
from retrainer.gate.scores import Scores, scores_of
from retrainer.gate.verdict import Verdict
from retrainer.overlap import HeldOut, held_out
from retrainer.tasks._protocol import Baseline, Judged


@dataclass(frozen=True)
class Measurements:
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


def measurements_of(request: Request, judged: Judged) -> Measurements:
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
    return Measurements(
        judged, details, scores, measured, against, baselines.missing, rows, champion, compared
    )


def _champion(request: Request, judged: Judged, scores: Scores) -> Opponent | None:
    champion = request.champion
    if champion is None or champion.model_sha256 == judged.predictor.model_sha256:
        return None
    return champion_of(champion, judged, scores)


def evidence_of(request: Request, found: Measurements) -> Evidence:
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


def figures_of(request: Request, found: Measurements, evidence: Evidence) -> dict[str, Any]:
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


def verdict_figures(verdict: Verdict, champion: Champion | None) -> dict[str, Any]:
    judged = {"version": champion.version, "model_sha256": champion.model_sha256} if champion else None
    plain = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(verdict).items()
    }
    return plain | {"champion": judged}
