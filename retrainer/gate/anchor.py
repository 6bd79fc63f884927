"""The anchor: the best champion so far, below which no candidate may fall.

Under `not-worse` a candidate may lose less than a margin against the champion, and the next one again against
that: each step is small, and a year of them is not. So a candidate must be shown not to be worse by the
margin than the anchor either, by the same test on today's rows. The anchor moves only to a promoted model
that is shown to be better than it. So the champion is never shown to be more than a margin below the best
that was ever shown.

A candidate that is shown to be better than the champion passes in any case: it is a step up from what is in
use. Under `better` every promotion is one, so the anchor holds nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from retrainer.gate.chance import p_said
from retrainer.gate.compare import Comparison, compare
from retrainer.gate.contest import counted
from retrainer.gate.evidence import AgainstAnchor, Evidence
from retrainer.gate.rules import Rule
from retrainer.settings import Gate


@dataclass(frozen=True)
class AnchorOutcome:
    """The candidate beside the anchor, as a verdict has it.

    difference  of the gate's metric on `rows` compared rows; above 0 the candidate is better
    p_value     of the test that it is not worse by the margin; None where nothing more was compared than with
                the champion, or nothing could be
    raises      it is shown to be better than the anchor: promoted, it is the anchor from then on
    """

    version: str
    is_champion: bool
    rows: int
    difference: float | None
    p_value: float | None
    passed: bool
    raises: bool
    note: str


def against_anchor(gate: Gate, evidence: Evidence) -> AnchorOutcome | None:
    """None where there is no anchor, or the candidate is the champion already."""
    anchor = evidence.anchor
    if anchor is None or evidence.is_champion:
        return None
    if anchor.is_champion:
        raises = _shown_better(gate, evidence)
        return AnchorOutcome(anchor.version, True, 0, None, None, True, raises, "the champion is the anchor")
    if anchor.pair is None:
        return _without_pair(gate, evidence, anchor)
    gain = compare(anchor.pair)
    outcome = AnchorOutcome(
        version=anchor.version,
        is_champion=False,
        rows=gain.rows,
        difference=gain.difference,
        p_value=None,
        passed=True,
        raises=gain.p_value <= gate.alpha,
        note="by gate.policy better the anchor holds nothing",
    )
    if gate.policy == "better":
        return outcome
    versus = compare(anchor.pair, gate.margin)
    passed, note = _said(gate, evidence, versus)
    return replace(outcome, p_value=versus.p_value, passed=passed, note=note)


def anchor_rule(gate: Gate, outcome: AnchorOutcome | None) -> list[Rule]:
    """None under `better`, and where the comparison with the champion says all."""
    if outcome is None or outcome.is_champion or gate.policy == "better":
        return []
    return [Rule("anchor", "gate.margin", outcome.p_value, gate.alpha, outcome.passed, outcome.note)]


def _shown_better(gate: Gate, evidence: Evidence) -> bool:
    return evidence.champion is not None and compare(evidence.champion).p_value <= gate.alpha


def _without_pair(gate: Gate, evidence: Evidence, anchor: AgainstAnchor) -> AnchorOutcome:
    if not anchor.incomparable:
        note = f"it is the anchor, version {anchor.version}"
        return AnchorOutcome(anchor.version, False, 0, 0.0, None, True, False, note)
    passed = _shown_better(gate, evidence)
    note = f"the anchor, version {anchor.version}, cannot be compared on these rows: {anchor.incomparable}"
    note += _BETTER if passed else _MOVE
    return AnchorOutcome(anchor.version, False, 0, None, None, passed, False, note)


_BETTER = "; the model is shown to be better than the champion"
_MOVE = '; `make anchor VERSION=… WHY="…"` names another'


def _said(gate: Gate, evidence: Evidence, versus: Comparison) -> tuple[bool, str]:
    assert evidence.anchor is not None
    passed = versus.p_value <= gate.alpha
    what = f"the anchor, version {evidence.anchor.version}, the best champion so far,"
    claim = f"worse than {what} by less than {gate.margin:g}, if at all"
    if not passed:
        claim = f"may be worse than {what} by {gate.margin:g} or more"
    sign = "≤" if passed else ">"
    note = f"{claim}: {counted(versus, 'the anchor')} ({p_said(versus.p_value)} {sign} {gate.alpha:g})"
    if passed:
        return True, note
    better = _shown_better(gate, evidence)
    return better, note + (_BETTER if better else _MOVE)
