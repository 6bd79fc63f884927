"""What a model must reach whatever the champion does: floors of its figures, ceilings of its costs.

Each rule that is set gives one Rule, passed or not; a rule that is off gives none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from retrainer.errors import SettingError
from retrainer.gate.chance import p_said
from retrainer.gate.compare import compare
from retrainer.gate.evidence import Evidence
from retrainer.gate.pair import Pair
from retrainer.settings import Gate


@dataclass(frozen=True)
class Rule:
    """One rule that was applied. `setting` is where its bound stands, `note` says the outcome in words.

    `value` is what was measured; None where there was nothing to measure.
    """

    name: str
    setting: str
    value: float | None
    bound: float
    passed: bool
    note: str


def floors(gate: Gate, evidence: Evidence) -> list[Rule]:
    """Every rule but the comparison. Raises UserError when a figure that one needs is missing."""
    return [
        *_least_value(gate, evidence),
        *_beaten(gate, evidence),
        *_slices(gate, evidence),
        *_ceiling("calibration error", gate, "max_calibration_error", evidence.calibration_error, "{:.4f}"),
        *_ceiling("latency", gate, "max_latency_ms", evidence.latency_ms, "{:.4g} ms a row"),
        *_ceiling("model size", gate, "max_model_mb", evidence.model_mb, "{:.4g} MB"),
    ]


def _least_value(gate: Gate, evidence: Evidence) -> Iterator[Rule]:
    if gate.min_value is not None:
        value = evidence.candidate.value
        yield _bound(evidence, "metric", evidence.title, "gate.min_value", value, gate.min_value)


def _beaten(gate: Gate, evidence: Evidence) -> Iterator[Rule]:
    if gate.beat_trivial:
        if evidence.trivial is None:
            raise SettingError("gate.beat_trivial needs a baseline, and this task has none; set it to false")
        what = "the trivial baseline"
        yield _beats(evidence, evidence.trivial, "beats the trivial baseline", what, gate, "beat_trivial")
    if gate.beat_baseline:
        if evidence.baseline is None:
            raise SettingError("gate.beat_baseline needs the cheap baseline: set evaluation.baseline: true")
        what = "the cheap baseline"
        yield _beats(evidence, evidence.baseline, "beats the baseline", what, gate, "beat_baseline")


def _beats(evidence: Evidence, pair: Pair, name: str, what: str, gate: Gate, key: str) -> Rule:
    versus = compare(pair)
    passed = versus.p_value <= gate.alpha
    sign = "≤" if passed else ">"
    gain = f"{versus.difference:+.4f} in {evidence.title}, {p_said(versus.p_value)} {sign} {gate.alpha:g}"
    note = f"{'beats' if passed else 'not shown to beat'} {what} ({gain}; gate.{key})"
    return Rule(name, f"gate.{key}", versus.p_value, gate.alpha, passed, note)


def _slices(gate: Gate, evidence: Evidence) -> Iterator[Rule]:
    known = sorted({figure.by for figure in evidence.slices})
    for by, floor in gate.slice_floors.items():
        if by not in known:
            have = f"; the slices are {', '.join(known)}" if known else ", there are none"
            raise SettingError(
                f"gate.slice_floors names {by!r}, which is no slice{have}; see evaluation.slices"
            )
        setting = f"gate.slice_floors.{by}"
        judged = [one for one in evidence.slices if one.by == by and one.rows >= gate.slice_rows]
        for one in judged:
            what = f"{evidence.title} on the {one.rows:,} rows with {by} = {one.name}"
            yield _bound(evidence, f"{by} = {one.name}", what, setting, one.value, floor)
        if not judged:
            note = f"no value of {by} has gate.slice_rows = {gate.slice_rows:,} rows, so none is judged"
            yield Rule(by, setting, None, floor, True, note)


def _bound(evidence: Evidence, name: str, what: str, setting: str, value: float, bound: float) -> Rule:
    """A floor of the gate's metric, or a ceiling where less is better."""
    higher = evidence.candidate.metric.HIGHER_IS_BETTER
    passed = value >= bound if higher else value <= bound
    relation = f"is {'not ' if passed else ''}{'below' if higher else 'above'}"
    return Rule(name, setting, value, bound, passed, f"{what} {value:.4f} {relation} {setting} = {bound:g}")


def _ceiling(name: str, gate: Gate, key: str, value: float | None, form: str) -> Iterator[Rule]:
    bound = getattr(gate, key)
    if not bound:
        return
    if value is None:
        raise SettingError(f"gate.{key} needs the {name}, which was not measured; set it to 0")
    passed = value <= bound
    relation = "is not above" if passed else "is above"
    note = f"{name} {form.format(value)} {relation} gate.{key} = {bound:g}"
    yield Rule(name, f"gate.{key}", value, bound, passed, note)
