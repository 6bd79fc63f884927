"""What is measured on the test rows, and what the gate and metrics.json get of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from retrainer.errors import DataError
from retrainer.evaluation.cost import latency_ms
from retrainer.evaluation.given_weights import with_given_weights
from retrainer.evaluation.need import need_figures
from retrainer.evaluation.opponents import (
    Opponent,
    anchor_figures,
    baseline_figures,
    baseline_of,
    champion_figures,
    champion_of,
    on_unseen_rows,
)
from retrainer.evaluation.parts import Parts, parts_of
from retrainer.evaluation.request import Request
from retrainer.evaluation.slices import Rows, slice_figures, slice_rows
from retrainer.formats.model_files import model_mb
from retrainer.gate.data_figures import Months
from retrainer.gate.evidence import AgainstAnchor, Champion, Evidence
from retrainer.gate.intervals import figures
from retrainer.gate.measured import Measured
from retrainer.gate.scores import Scores, scores_of
from retrainer.gate.verdict import Verdict
from retrainer.overlap import HeldOut, JudgedRows
from retrainer.tasks._protocol import Baseline, Judged


@dataclass(frozen=True)
class Measurements:
    """What was measured on the test rows, before the gate judges it. `details` are the task's own.

    `champion`: on the rows that it was never trained on; None without one, or when the judged model is it. So
    `anchor`, which is None too where it is the champion. `slices`: the rows of each value of the declared
    ones; `parts`: classes and slices beside the champion. `first`: the registry has no version of another
    model by this name.
    """

    judged: Judged
    details: dict[str, Any]
    scores: Scores
    measured: dict[str, Measured]
    baselines: list[tuple[Baseline, Opponent]]
    no_baseline: str
    rows: HeldOut
    champion: Opponent | None
    slices: Rows
    parts: Parts
    anchor: Opponent | None
    first: bool


def measurements_of(request: Request, judged: Judged, all_rows: JudgedRows) -> Measurements:
    task = judged.predictor.task
    scores = scores_of(task, request.gate.metric)
    measured = scores.measured(judged.predictions, judged.test)
    if not len(judged.train):
        raise DataError("the dataset has no training rows, so there is no baseline; lower split.test")
    baselines = task.baselines(judged.train, judged.test, request.evaluation)
    baselines = with_given_weights(baselines, request.model, judged)
    details = task.details(judged)
    champion = _champion(request, judged, scores)
    met = request.champion.directory if request.champion and champion and champion.pairs else None
    sha256 = judged.predictor.model_sha256
    judgements = tuple(request.judgements())
    rows = all_rows.held_out(judged.test, sha256, met, judgements)
    slices, parts, unseen = slice_rows(judged, request.gate), Parts(), rows.met.unseen if rows.met else None
    if champion is not None:
        parts = parts_of(judged, champion, unseen, slices, scores)
        champion = on_unseen_rows(champion, unseen)
    against = [(one, baseline_of(one, judged, scores)) for one in baselines.found]
    return Measurements(
        judged=judged,
        details=details,
        scores=scores,
        measured=measured,
        baselines=against,
        no_baseline=baselines.missing,
        rows=rows,
        champion=champion,
        slices=slices,
        parts=parts,
        anchor=_anchor(request, judged, scores, all_rows),
        first=request.champion is None and all(one.model_sha256 == sha256 for one in judgements),
    )


def _champion(request: Request, judged: Judged, scores: Scores) -> Opponent | None:
    champion = request.champion
    if champion is None or champion.model_sha256 == judged.predictor.model_sha256:
        return None
    return champion_of(champion, judged, scores)


def _anchor(request: Request, judged: Judged, scores: Scores, rows: JudgedRows) -> Opponent | None:
    """The best champion so far, scored where it is neither the champion nor the judged model."""
    anchor, champion = request.anchor, request.champion
    if anchor is None or champion is None or anchor.version == champion.version:
        return None
    if anchor.model is None:
        return Opponent({}, anchor.missing)
    sha256 = judged.predictor.model_sha256
    if sha256 in (anchor.model.model_sha256, champion.model_sha256):
        return None
    return on_unseen_rows(champion_of(anchor.model, judged, scores), rows.unseen_by(anchor.model.directory))


def evidence_of(request: Request, found: Measurements, months: Months | None = None) -> Evidence:
    """A time is measured only where the gate has a limit for it: it is new every time, and a report that
    nobody asked for a time stays the same to the byte. Raises UserError for a slice that there is not."""
    scores, chosen = found.scores, found.scores.gate_metric
    pairs = [opponent.pairs[chosen] for _, opponent in found.baselines]
    errors = found.measured.get("calibration_error")
    return Evidence(
        candidate=found.measured[chosen],
        metric=chosen,
        title=scores.gate_title,
        task_metric=chosen == scores.task_metric,
        **_against_champion(found),
        trivial=pairs[0] if pairs else None,
        baseline=pairs[1] if len(pairs) > 1 else None,
        is_champion=request.champion is not None and found.champion is None,
        first=found.first,
        decision=request.decision,
        slices=slice_figures(found.slices, found.measured[chosen], request.evaluation),
        calibration_error=None if errors is None else round(errors.value, 6),
        latency_ms=latency_ms(request.model, found.judged.test) if request.gate.max_latency_ms else None,
        model_mb=model_mb(request.model),
        test_uses=found.rows.uses,
        anchor=_against_anchor(request, found),
        parts=found.parts.parts,
        appeared=found.parts.appeared,
        vanished=found.parts.vanished,
        untested=found.parts.untested,
        months=months,
    )


def _against_champion(found: Measurements) -> dict[str, Any]:
    """The fields of the evidence about a champion that is another model than the judged one."""
    champion, met = found.champion, found.rows.met
    if champion is None:
        return {}
    if not champion.pairs:
        return {"incomparable": champion.note}
    pair = champion.pairs[found.scores.gate_metric]
    if met is None:
        return {"champion": pair}
    new = met.new[met.unseen]  # of the rows that are compared
    return {
        "champion": pair,
        "left_out": int((~met.unseen).sum()),
        "new": int(met.new.sum()),
        "champion_on_new": pair.only(new) if new.any() else None,
    }


def _against_anchor(request: Request, found: Measurements) -> AgainstAnchor | None:
    anchor, champion = request.anchor, request.champion
    if anchor is None or champion is None:
        return None
    if anchor.version == champion.version:
        return AgainstAnchor(anchor.version, is_champion=True)
    if found.anchor is None:
        return AgainstAnchor(anchor.version)
    if not found.anchor.pairs:
        return AgainstAnchor(anchor.version, incomparable=found.anchor.note)
    return AgainstAnchor(anchor.version, pair=found.anchor.pairs[found.scores.gate_metric])


def figures_of(request: Request, found: Measurements, evidence: Evidence) -> dict[str, Any]:
    """The common part of metrics.json that was measured."""
    scores, settings = found.scores, request.evaluation
    return {
        "headline": scores.gate_metric,
        "metrics": figures(found.measured, settings),
        "about": scores.about(),
        "baselines": {
            one.name: baseline_figures(one, number == 0, against, scores, settings)
            for number, (one, against) in enumerate(found.baselines)
        },
        "no_baseline": found.no_baseline,
        "champion": champion_figures(request.champion, found.champion, scores, settings),
        "anchor": anchor_figures(request.anchor, found.anchor, scores, settings),
        "slices": [asdict(one) for one in evidence.slices],
        "test_set": found.rows.plain(),
        "need": need_figures(request, found),
        "cost": {"latency_ms": evidence.latency_ms, "model_mb": evidence.model_mb},
        "training_cost": request.training_cost,
    }


def verdict_figures(verdict: Verdict, champion: Champion | None) -> dict[str, Any]:
    judged = {"version": champion.version, "model_sha256": champion.model_sha256} if champion else None
    plain = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(verdict).items()
    }
    return plain | {"champion": judged}
