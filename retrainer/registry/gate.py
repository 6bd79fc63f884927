"""The gate: which alias a judged model may take, and why, in words.

A model that is no better than the champion must be promoted no more often than `gate.alpha`, however often
a month's training is repeated. So the champion is scored again on the same rows and the two are compared
row by row (`retrainer.registry.contest`); a higher accuracy alone proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from retrainer.evaluation.compare import Comparison
from retrainer.evaluation.evidence import Evidence
from retrainer.registry.contest import ASSUMED_DISCORDANT_SHARE, contest, new_rows
from retrainer.registry.rules import Rule, floors
from retrainer.settings import Gate


@dataclass(frozen=True)
class Verdict:
    """What the gate decided. Figures that compare with the champion are None when nothing could be compared.

    rules       every rule that was applied, the comparison with the champion first
    reasons     what decided, and what must be known of it, in sentences
    rows, accuracy          all test rows, and the share that the candidate has right
    compared_rows, left_out rows compared with the champion, and those that it was trained on
    difference  of the metric on the compared rows; above 0 the candidate is better
    better, worse           compared rows that only the candidate, or only the champion, had right
    new_rows    the same on rows that are new since the champion was judged, for information
    smallest_difference     the least true difference of the metric at which a model passes with probability
                `power`; under `not-worse` it may be negative. None: there is no such one on these rows, or it
                is not known before a pair is seen (any metric but accuracy)
    discordant_share        of rows that one of the two alone has right: observed on the pair or, when
                `discordant_assumed`, ASSUMED_DISCORDANT_SHARE
    false_promotion         chance that of so many equal models as these rows have judged (`test_uses`) one
                was promoted; under `not-worse`, of models worse by the margin
    """

    verdict: Literal["champion", "challenger"]
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...]
    policy: str
    metric: str
    margin: float
    rows: int
    accuracy: float
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
    discordant_share: float
    discordant_assumed: bool
    test_uses: int
    false_promotion: float


def judge(gate: Gate, evidence: Evidence) -> Verdict:
    """Judges the candidate. Raises UserError when a rule needs figures that were not computed.

    A model that is champion already stays so, whatever the floors say.
    """
    outcome = contest(gate, evidence)
    against = Rule("comparison", "gate.policy", outcome.p_value, gate.alpha, outcome.passed, outcome.note)
    rules = (against, *floors(gate, evidence))
    passed = evidence.is_champion or all(rule.passed for rule in rules)
    versus = outcome.versus
    compared = versus.rows if versus else 0
    return Verdict(
        verdict="champion" if passed else "challenger",
        reasons=_reasons(gate, evidence, rules),
        rules=rules,
        policy=gate.policy,
        metric=gate.metric,
        margin=gate.margin,
        rows=evidence.candidate.rows,
        accuracy=float(evidence.candidate.correct.mean()),
        compared_rows=compared,
        left_out=_left_out(evidence),
        alpha=gate.alpha,
        power=gate.power,
        p_value=outcome.p_value,
        difference=outcome.difference,
        better=versus.better if versus else None,
        worse=versus.worse if versus else None,
        new_rows=new_rows(evidence),
        smallest_difference=outcome.smallest_difference,
        discordant_share=versus.discordant_share if versus else ASSUMED_DISCORDANT_SHARE,
        discordant_assumed=versus is None,
        test_uses=evidence.test_uses,
        false_promotion=_false_promotion(gate, evidence),
    )


def _left_out(evidence: Evidence) -> int:
    return 0 if evidence.champion is None or evidence.fair is None else int((~evidence.fair).sum())


def _false_promotion(gate: Gate, evidence: Evidence) -> float:
    return float(1 - (1 - gate.alpha) ** evidence.test_uses)


def _reasons(gate: Gate, evidence: Evidence, rules: tuple[Rule, ...]) -> tuple[str, ...]:
    """Floors that do not hold, the comparison, and what must be known of the rows it was made on."""
    against, *others = rules
    failed = [rule.note for rule in others if not rule.passed]
    return (*failed, against.note, *_about_rows(gate, evidence))


def _about_rows(gate: Gate, evidence: Evidence) -> list[str]:
    rows, left_out, said = evidence.candidate.rows, _left_out(evidence), []
    if 0 < left_out < rows:
        said.append(f"{left_out:,} of {rows:,} test rows are not compared: the champion was trained on them")
    if evidence.champion is not None and evidence.new is not None and evidence.new.any():
        said.append(_about_new(int(evidence.new.sum()), rows, new_rows(evidence)))
    if evidence.test_uses > 1:
        what = "an equal one" if gate.policy == "better" else f"one worse by {gate.margin:g}"
        said.append(
            f"these test rows have judged {evidence.test_uses:,} models: if none is better than its champion,"
            f" {what} was promoted with a chance of up to {100 * _false_promotion(gate, evidence):.0f}%"
        )
    return said


def _about_new(new: int, rows: int, versus: Comparison | None) -> str:
    said = f"the test set changed: {new:,} of {rows:,} rows are new since the champion was judged"
    if versus is None:
        return said
    counts = f"it alone has {versus.better:,} right, the champion alone {versus.worse:,}"
    which = "on these" if versus.rows == new else f"on {versus.rows:,} of these, where it was not trained,"
    return f"{said}; {which} {counts} (p = {versus.p_value:.2g})"
