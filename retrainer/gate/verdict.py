"""The gate: which alias a judged model may take, and why, in words.

A model that is no better than the champion must be promoted no more often than `gate.alpha`, however often
a month's training is repeated. So the champion is scored again on the same rows and the two are compared
row by row (`retrainer.gate.contest`); a better figure alone proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from retrainer.gate.anchor import AnchorOutcome, against_anchor, anchor_rule
from retrainer.gate.chance import p_said
from retrainer.gate.compare import Comparison
from retrainer.gate.contest import ASSUMED_DISCORDANT_SHARE, Contest, contest, new_rows, right_alone
from retrainer.gate.data_changes import data_changes
from retrainer.gate.decision import DECISION, Decision
from retrainer.gate.evidence import Evidence
from retrainer.gate.parts import PartChange, needless, part_changes, part_rules
from retrainer.gate.rules import Rule, floors
from retrainer.settings import Gate


@dataclass(frozen=True)
class Verdict:
    """What the gate decided. Figures that compare with the champion are None when nothing could be compared.

    rules       every rule that was applied, the comparison with the champion first
    reasons     what decided, and what must be known of it, in sentences
    metric, title   the gate's metric: its name in the settings, and in words
    rows, value     all test rows, and the candidate's value on them
    compared_rows, left_out  rows compared with the champion, and those left out: it was trained on
                               them or on rows linked to them
    difference      of the metric on the compared rows; above 0 the candidate is better
    better, worse   of a share of rows: those that only the candidate, or only the champion, has right
    new_rows    the comparison on rows that are new since the champion was judged, for information
    smallest_difference  the least true difference of the metric at which a model passes with probability
                `power`; under `not-worse` it may be negative. None: there is no such one on these rows, or it
                is not known before a pair is seen (any metric that is no share of rows)
    rows_to_pass    about how many compared rows would pass, with probability `power`, a model that is truly
                as much better as this one came out; None where it passes, no number of rows would, or it is
                not known
    discordant_share     of rows that do not count alike for the two: observed on the pair or, when
                `discordant_assumed`, ASSUMED_DISCORDANT_SHARE
    false_promotion      at most the chance that of so many equal models as these rows have judged
                (`test_uses`) one was promoted; under `not-worse`, of models worse by the margin
    anchor      the candidate beside the best champion so far; None without one
    parts       classes and slices beside the champion; `untested`: classes without a compared row
    appeared, vanished  classes that only the candidate, or only the champion, knows
    needless    classes and slices that a setting accepts although nothing became of them
    decision    what somebody decided about this very model after it was registered; None: nothing
    """

    verdict: Literal["champion", "challenger"]
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...]
    policy: str
    metric: str
    title: str
    share: bool
    margin: float
    rows: int
    value: float
    compared_rows: int
    left_out: int
    alpha: float
    power: float
    p_value: float | None
    difference: float | None
    better: int | None
    worse: int | None
    new_rows: Comparison | None
    smallest_difference: float | None
    rows_to_pass: int | None
    discordant_share: float
    discordant_assumed: bool
    test_uses: int
    false_promotion: float
    anchor: AnchorOutcome | None
    parts: tuple[PartChange, ...]
    untested: int
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]
    needless: tuple[str, ...]
    decision: Decision | None


def judge(gate: Gate, evidence: Evidence) -> Verdict:
    """Judges the candidate. Raises UserError when a rule needs figures that were not computed.

    A model that is champion already stays so, whatever the floors say; one that somebody took the alias from
    does not get it back, however good it is.
    """
    outcome = contest(gate, evidence)
    anchor, parts = against_anchor(gate, evidence), part_changes(gate, evidence)
    rules = (
        _comparison(gate, outcome),
        *_decided(evidence),
        *anchor_rule(gate, anchor),
        *part_rules(gate, evidence, parts),
        *floors(gate, evidence),
        *data_changes(gate, evidence.months),
    )
    passed = evidence.is_champion or all(rule.passed for rule in rules)
    return Verdict(
        verdict="champion" if passed else "challenger",
        reasons=_reasons(gate, evidence, rules),
        rules=rules,
        policy=gate.policy,
        metric=evidence.metric,
        title=evidence.title,
        margin=gate.margin,
        rows=evidence.candidate.rows,
        value=evidence.candidate.value,
        left_out=evidence.left_out,
        alpha=gate.alpha,
        power=gate.power,
        new_rows=new_rows(evidence),
        smallest_difference=outcome.smallest_difference,
        rows_to_pass=outcome.rows_to_pass,
        test_uses=evidence.test_uses,
        false_promotion=_false_promotion(gate, evidence),
        anchor=anchor,
        parts=parts,
        untested=evidence.untested,
        appeared=evidence.appeared,
        vanished=evidence.vanished,
        needless=needless(gate, evidence, parts),
        decision=evidence.decision,
        **_versus_champion(outcome.versus, evidence),
    )


def _versus_champion(versus: Comparison | None, evidence: Evidence) -> dict[str, Any]:
    """The fields of a verdict that the comparison with the champion gives."""
    if versus is None:
        alone = dict.fromkeys(("p_value", "difference", "better", "worse"))
        return alone | {
            "share": evidence.candidate.is_share,
            "compared_rows": 0,
            "discordant_share": ASSUMED_DISCORDANT_SHARE,
            "discordant_assumed": True,
        }
    return {
        "p_value": versus.p_value,
        "difference": versus.difference,
        "better": versus.better,
        "worse": versus.worse,
        "share": versus.better is not None,
        "compared_rows": versus.rows,
        "discordant_share": versus.discordant_share,
        "discordant_assumed": False,
    }


def _comparison(gate: Gate, outcome: Contest) -> Rule:
    p_value = outcome.versus.p_value if outcome.versus else None
    return Rule("comparison", "gate.policy", p_value, gate.alpha, outcome.passed, outcome.note)


def _decided(evidence: Evidence) -> list[Rule]:
    decision = evidence.decision
    if decision is None or not decision.taken:
        return []
    return [Rule(DECISION, "make promote", None, 0, False, decision.why)]


def _false_promotion(gate: Gate, evidence: Evidence) -> float:
    """Bonferroni's bound, which holds however much the judgements depend on each other."""
    return min(1.0, gate.alpha * evidence.test_uses)


def _reasons(gate: Gate, evidence: Evidence, rules: tuple[Rule, ...]) -> tuple[str, ...]:
    """Floors that do not hold, the comparison, and what must be known of the rows it was made on."""
    against, *others = rules
    failed = [rule.note for rule in others if not rule.passed]
    made = [evidence.decision.why] if evidence.decision and not evidence.decision.taken else []
    return (*made, *failed, against.note, *_about_rows(gate, evidence))


def _about_rows(gate: Gate, evidence: Evidence) -> list[str]:
    rows, left_out, said = evidence.candidate.rows, evidence.left_out, []
    if evidence.months is not None and evidence.months.same and not evidence.is_champion:
        said.append("no new data came: the champion was trained on these very rows")
    if 0 < left_out < rows:
        why = "the champion was trained on them or on rows linked to them"
        said.append(f"{left_out:,} of {rows:,} test rows are not compared: {why}")
    if evidence.champion is not None and evidence.new:
        said.append(_about_new(evidence.new, rows, new_rows(evidence)))
    if evidence.test_uses > 1:
        what = "an equal one" if gate.policy == "better" else f"one worse by {gate.margin:g}"
        said.append(
            f"at least half of these test rows have judged {evidence.test_uses:,} models: if none is better"
            f" than its champion, {what} was promoted with a chance of at most"
            f" {100 * _false_promotion(gate, evidence):.0f}% (gate.alpha for each)"
        )
    return said


def _about_new(new: int, rows: int, versus: Comparison | None) -> str:
    said = f"the test set changed: {new:,} of {rows:,} rows are new since the champion was judged"
    if versus is None:
        return said
    figures = f"it has {versus.candidate:.4f}, the champion {versus.other:.4f}"
    counts = figures if versus.better is None else right_alone(versus)
    which = "on these" if versus.rows == new else f"on {versus.rows:,} of these, where it was not trained,"
    return f"{said}; {which} {counts} ({p_said(versus.p_value)})"
