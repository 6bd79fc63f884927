"""What a model must reach whatever the champion does: floors of its figures, ceilings of its costs.

Each rule that is set gives one Rule, passed or not; a rule that is off gives none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrainer.errors import UserError
from retrainer.evaluation.compare import compare
from retrainer.evaluation.evidence import Evidence
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
        *_accuracy(gate, evidence),
        *_beaten(gate, evidence),
        *_slices(gate, evidence),
        *_ceiling("calibration error", gate, "max_calibration_error", evidence.calibration_error, "{:.4f}"),
        *_ceiling("latency", gate, "max_latency_ms", evidence.latency_ms, "{:.4g} ms a row"),
        *_ceiling("model size", gate, "max_model_mb", evidence.model_mb, "{:.4g} MB"),
    ]


def _accuracy(gate: Gate, evidence: Evidence) -> Iterator[Rule]:
    if gate.min_accuracy:
        accuracy = float(evidence.candidate.correct.mean())
        yield _floor("accuracy", "accuracy", "gate.min_accuracy", accuracy, gate.min_accuracy)


def _beaten(gate: Gate, evidence: Evidence) -> Iterator[Rule]:
    if gate.beat_majority:
        assert evidence.majority is not None, "evaluation always counts the commonest class"
        what = "always answering the commonest class"
        yield _beats(evidence, evidence.majority, "beats the commonest class", what, gate, "beat_majority")
    if gate.beat_baseline:
        if evidence.baseline is None:
            raise UserError("gate.beat_baseline needs the cheap baseline: set evaluation.baseline: true")
        what = "the cheap baseline"
        yield _beats(evidence, evidence.baseline, "beats the baseline", what, gate, "beat_baseline")


def _beats(evidence: Evidence, other: np.ndarray, name: str, what: str, gate: Gate, key: str) -> Rule:
    versus = compare(evidence.candidate.correct, other)
    passed = versus.p_value <= gate.alpha
    sign = "≤" if passed else ">"
    gain = f"{versus.difference:+.4f} in accuracy, p = {versus.p_value:.2g} {sign} {gate.alpha:g}"
    note = f"{'beats' if passed else 'not shown to beat'} {what} ({gain}; gate.{key})"
    return Rule(name, f"gate.{key}", versus.p_value, gate.alpha, passed, note)


def _slices(gate: Gate, evidence: Evidence) -> Iterator[Rule]:
    known = sorted({figure.by for figure in evidence.slices})
    for by, floor in gate.slice_floors.items():
        if by not in known:
            have = f"; the slices are {', '.join(known)}" if known else ", there are none"
            raise UserError(f"gate.slice_floors names {by!r}, which is no slice{have}; see evaluation.slices")
        setting = f"gate.slice_floors.{by}"
        judged = [one for one in evidence.slices if one.by == by and one.rows >= gate.slice_rows]
        for one in judged:
            what = f"accuracy on the {one.rows:,} rows with {by} = {one.value}"
            yield _floor(f"{by} = {one.value}", what, setting, one.accuracy, floor)
        if not judged:
            note = f"no value of {by} has gate.slice_rows = {gate.slice_rows:,} rows, so none is judged"
            yield Rule(by, setting, None, floor, True, note)


def _floor(name: str, what: str, setting: str, value: float, bound: float) -> Rule:
    passed = value >= bound
    relation = "is not below" if passed else "is below"
    return Rule(name, setting, value, bound, passed, f"{what} {value:.4f} {relation} {setting} = {bound:g}")


def _ceiling(name: str, gate: Gate, key: str, value: float | None, form: str) -> Iterator[Rule]:
    bound = getattr(gate, key)
    if not bound:
        return
    if value is None:
        raise UserError(f"gate.{key} needs the {name}, which was not measured; set it to 0")
    passed = value <= bound
    relation = "is not above" if passed else "is above"
    note = f"{name} {form.format(value)} {relation} gate.{key} = {bound:g}"
    yield Rule(name, f"gate.{key}", value, bound, passed, note)
