"""The candidate against the champion, by the gate's policy and metric, on rows that the champion never saw.

policy      a share of rows                            any other metric
better      McNemar's exact test                       paired bootstrap, margin 0
not-worse   exact unconditional test of `margin`       paired bootstrap of `margin`
"""

from __future__ import annotations

from dataclasses import dataclass

from retrainer.errors import SettingError
from retrainer.gate.chance import p_said
from retrainer.gate.compare import FEWEST_DISCORDANT, Comparison, compare, detectable_share
from retrainer.gate.evidence import Evidence
from retrainer.settings import Gate
from retrainer.texts import plural

# Without a champion there is no pair to count: two decent models often differ on about so many rows.
ASSUMED_DISCORDANT_SHARE = 0.1


@dataclass(frozen=True)
class Contest:
    """The outcome. `versus` is None when there was nobody to compare with, or no row."""

    passed: bool
    note: str
    versus: Comparison | None = None
    smallest_difference: float | None = None
    rows_to_pass: int | None = None


def contest(gate: Gate, evidence: Evidence) -> Contest:
    """Raises UserError for a margin that no share of rows can have."""
    margin = gate.margin if gate.policy == "not-worse" else 0.0
    if evidence.candidate.is_share and margin >= 1:
        raise SettingError(f"gate.margin: {margin:g} is no share of rows; {evidence.title} needs one below 1")
    passed, note = _uncontested(evidence)
    if note:
        return Contest(passed, note, smallest_difference=_assumed_difference(gate, margin, evidence))
    assert evidence.champion is not None
    versus = compare(evidence.champion, margin)
    passed, note = _said(gate, evidence, versus)
    chances = margin, gate.alpha, gate.power
    needed = None if passed else versus.rows_needed(*chances)
    return Contest(passed, note, versus, versus.smallest_difference(*chances), needed)


def new_rows(evidence: Evidence) -> Comparison | None:
    """Which model is better on rows that the champion was neither tested nor trained on; None without any."""
    return None if evidence.champion_on_new is None else compare(evidence.champion_on_new)


def _uncontested(evidence: Evidence) -> tuple[bool, str]:
    """Whether the model passes, and why, when nothing can be compared; the reason is empty when it can."""
    if evidence.is_champion:
        return True, "no new data came: the same rows gave the very model that is champion"
    if evidence.incomparable:
        return False, f"the champion cannot be compared on these rows: {evidence.incomparable}"
    if evidence.champion is None:
        which = "the first version" if evidence.first else "no version is champion now"
        return True, f"{which}, so there is none to compare it with"
    return True, ""


def _said(gate: Gate, evidence: Evidence, versus: Comparison) -> tuple[bool, str]:
    passed = versus.p_value <= gate.alpha
    # "it has so many right" says enough of a share that is the task's first metric.
    metric = "" if evidence.task_metric and versus.better is not None else f" in {evidence.title}"
    claim = {
        ("better", True): f"better than the champion{metric}",
        ("better", False): f"not shown to be better than the champion{metric}",
        ("not-worse", True): f"worse than the champion{metric} by less than {gate.margin:g}, if at all",
        ("not-worse", False): f"may be worse than the champion{metric} by {gate.margin:g} or more",
    }[gate.policy, passed]
    sign = "≤" if passed else ">"
    return passed, f"{claim}: {counted(versus)} ({p_said(versus.p_value)} {sign} {gate.alpha:g})"


def counted(versus: Comparison, other: str = "the champion") -> str:
    """What was seen of the two on the rows, in words."""
    if versus.better is not None:
        return f"of {versus.rows:,} rows {right_alone(versus, other)}"
    figures = f"{versus.candidate:.4f} against {versus.other:.4f} on {versus.rows:,} rows"
    figures += f" of {plural(versus.groups, 'group')}" if versus.groups is not None else ""
    if not versus.enough:
        few = f"{versus.discordant} tell the two apart; {FEWEST_DISCORDANT} are needed to judge"
        figures += f", of which {few}"
    return figures


def right_alone(versus: Comparison, other: str = "the champion") -> str:
    return f"it alone has {versus.better:,} right, {other} alone {versus.worse:,}"


def _assumed_difference(gate: Gate, margin: float, evidence: Evidence) -> float | None:
    """For a share of rows alone the share of discordant ones tells the spread."""
    if not evidence.candidate.is_share:
        return None
    rows = evidence.candidate.rows
    return detectable_share(rows, ASSUMED_DISCORDANT_SHARE, margin, gate.alpha, gate.power)
