"""The candidate against the champion on the rows that are fair to both, by the gate's policy and metric.

    policy      accuracy                                   macro_f1, micro_f1, log_loss
    better      McNemar's exact test                       paired bootstrap, margin 0
    not-worse   exact unconditional test of `margin`       paired bootstrap of `margin`

Legend: N test rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

from retrainer.evaluation.answers import Answers
from retrainer.evaluation.compare import Comparison, compare, smallest_difference
from retrainer.evaluation.evidence import Evidence
from retrainer.evaluation.noninferiority import noninferiority_p_value, smallest_true_difference
from retrainer.evaluation.paired_bootstrap import FEWEST_TELLING, PairedFigures, bootstrap_test
from retrainer.evaluation.words import TITLES
from retrainer.settings import Gate

# Without a champion there is no pair to count: two decent classifiers often differ on about so many rows.
ASSUMED_DISCORDANT_SHARE = 0.1


@dataclass(frozen=True)
class Contest:
    """The outcome. `versus`, `p_value`, `difference` (of the metric, above 0 in the candidate's favour): None
    when there was nobody to compare with, or no row. `smallest_difference` as in the gate's Verdict.
    """

    passed: bool
    note: str
    versus: Comparison | None = None
    p_value: float | None = None
    difference: float | None = None
    smallest_difference: float | None = None


def contest(gate: Gate, evidence: Evidence) -> Contest:
    """Decides by the policy. Only rows that the champion was not trained on (`fair`) are compared."""
    passed, note = _uncontested(evidence)
    if note:
        return Contest(passed, note, smallest_difference=_assumed_difference(gate, evidence.candidate.rows))
    candidate, champion = evidence.candidate, evidence.champion
    assert champion is not None
    if evidence.fair is not None and not evidence.fair.all():
        candidate, champion = candidate.only(evidence.fair), champion.only(evidence.fair)
    versus = compare(candidate.correct, champion.correct)
    if gate.metric == "accuracy":
        return _by_accuracy(gate, versus)
    return _by_bootstrap(gate, candidate, champion, versus)


def new_rows(evidence: Evidence) -> Comparison | None:
    """The counts on fair rows that the champion was not tested on; None when there are none."""
    if evidence.champion is None or evidence.new is None:
        return None
    chosen = evidence.new if evidence.fair is None else evidence.new & evidence.fair
    if not chosen.any():
        return None
    return compare(evidence.candidate.correct[chosen], evidence.champion.correct[chosen])


def _uncontested(evidence: Evidence) -> tuple[bool, str]:
    """Whether the model passes, and why, when nothing can be compared; the reason is empty when it can."""
    if evidence.is_champion:
        return True, "it is the champion already"
    if evidence.incomparable:
        return False, f"the champion cannot be compared on these rows: {evidence.incomparable}"
    if evidence.champion is None:
        return True, "there is no champion yet"
    if evidence.fair is not None and not evidence.fair.any():
        rows = f"all {evidence.candidate.rows:,} test rows"
        return False, f"the champion was trained on {rows}, so nothing can be compared"
    return True, ""


def _by_accuracy(gate: Gate, versus: Comparison) -> Contest:
    p_value = versus.p_value
    if gate.policy == "not-worse":
        p_value = noninferiority_p_value(versus.rows, versus.better, versus.worse, gate.margin)
    counts = f"it alone has {versus.better:,} right, the champion alone {versus.worse:,}"
    passed, note = _said(gate, p_value, "", f"of {versus.rows:,} rows {counts}")
    smallest = _accuracy_difference(gate, versus.rows, versus.discordant_share)
    return Contest(passed, note, versus, p_value, versus.difference, smallest)


def _by_bootstrap(gate: Gate, candidate: Answers, champion: Answers, versus: Comparison) -> Contest:
    margin = gate.margin if gate.policy == "not-worse" else 0.0
    found = bootstrap_test(gate.metric, candidate, champion, margin)
    figures = f"{found.candidate:.4f} against {found.other:.4f} on {versus.rows:,} rows"
    if found.telling < FEWEST_TELLING:
        figures += f", of which {found.telling} tell the two apart; {FEWEST_TELLING} are needed to judge"
    passed, note = _said(gate, found.p_value, f" in {TITLES[gate.metric]}", figures)
    smallest = _bootstrap_difference(gate, found, margin)
    return Contest(passed, note, versus, found.p_value, found.gain, smallest)


def _said(gate: Gate, p_value: float, metric: str, figures: str) -> tuple[bool, str]:
    passed = p_value <= gate.alpha
    claim = {
        ("better", True): f"better than the champion{metric}",
        ("better", False): f"not shown to be better than the champion{metric}",
        ("not-worse", True): f"worse than the champion{metric} by less than {gate.margin:g}, if at all",
        ("not-worse", False): f"may be worse than the champion{metric} by {gate.margin:g} or more",
    }[gate.policy, passed]
    return passed, f"{claim}: {figures} (p = {p_value:.2g} {'≤' if passed else '>'} {gate.alpha:g})"


def _accuracy_difference(gate: Gate, rows: int, share: float) -> float | None:
    if gate.policy == "better":
        return smallest_difference(rows, share, gate.alpha, gate.power)
    return smallest_true_difference(rows, share, gate.margin, gate.alpha, gate.power)


def _bootstrap_difference(gate: Gate, found: PairedFigures, margin: float) -> float | None:
    """From the spread that was observed, as if the gain were normal."""
    if found.telling < FEWEST_TELLING:
        return None
    normal = NormalDist()
    return (normal.inv_cdf(1 - gate.alpha) + normal.inv_cdf(gate.power)) * found.standard_error - margin


def _assumed_difference(gate: Gate, rows: int) -> float | None:
    """For accuracy alone a share of discordant rows tells the spread."""
    return _accuracy_difference(gate, rows, ASSUMED_DISCORDANT_SHARE) if gate.metric == "accuracy" else None
