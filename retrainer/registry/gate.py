"""The gate: which alias a judged model may take, and why, in words.

A model that is no better than the champion must be promoted no more often than `gate.alpha`, however often
a month's training is repeated. So the champion is scored again on the same rows and the two are compared
row by row (`retrainer.evaluation.compare`); a higher accuracy alone proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from retrainer.errors import UserError
from retrainer.evaluation.compare import Comparison, compare, smallest_difference
from retrainer.settings import Gate

# Without a champion there is no pair to count: two decent classifiers often differ on about so many rows.
ASSUMED_DISCORDANT_SHARE = 0.1
_COMMONEST = "always answering the commonest class"


@dataclass(frozen=True)
class Verdict:
    """What the gate decided. Counts and `p_value` compare with the champion; None when there is none.

    `better` and `worse` are the rows that only the candidate, or only the champion, had right.
    `smallest_difference` is the least gain in accuracy that this test finds with probability `gate.power`
    (None: no gain could be found on so few rows), given `discordant_share`, which is observed on the pair or,
    when `discordant_assumed`, ASSUMED_DISCORDANT_SHARE.
    """

    verdict: Literal["champion", "challenger"]
    reasons: tuple[str, ...]
    rows: int
    accuracy: float
    alpha: float
    power: float
    p_value: float | None
    better: int | None
    worse: int | None
    smallest_difference: float | None
    discordant_share: float
    discordant_assumed: bool


def judge(
    gate: Gate,
    candidate: np.ndarray,
    champion: np.ndarray | None = None,
    majority: np.ndarray | None = None,
    baseline: np.ndarray | None = None,
    is_champion: bool = False,
) -> Verdict:
    """Judges a candidate by what it had right. Every array is bool [N], over the same test rows.

    `is_champion`: the candidate is the very model that is champion now; it stays so.
    Raises UserError when a floor needs figures that were not computed.
    """
    versus = None if champion is None else compare(candidate, champion)
    passed, reasons = _floors(gate, candidate, majority, baseline)
    if is_champion:
        passed, reasons = True, [*reasons, "it is the champion already"]
    else:
        better, reason = _better_than_champion(versus, gate.alpha)
        passed, reasons = passed and better, [*reasons, reason]
    share = ASSUMED_DISCORDANT_SHARE if versus is None else versus.discordant_share
    return Verdict(
        verdict="champion" if passed else "challenger",
        reasons=tuple(reasons),
        rows=len(candidate),
        accuracy=float(candidate.mean()),
        alpha=gate.alpha,
        power=gate.power,
        p_value=versus.p_value if versus else None,
        better=versus.better if versus else None,
        worse=versus.worse if versus else None,
        smallest_difference=smallest_difference(len(candidate), share, gate.alpha, gate.power),
        discordant_share=share,
        discordant_assumed=versus is None,
    )


def _better_than_champion(versus: Comparison | None, alpha: float) -> tuple[bool, str]:
    if versus is None:
        return True, "there is no champion yet"
    better = versus.p_value <= alpha
    words = "better than the champion" if better else "not shown to be better than the champion"
    counts = f"of {versus.rows} rows it alone has {versus.better} right, the champion alone {versus.worse}"
    return better, f"{words}: {counts} (p = {versus.p_value:.2g} {'≤' if better else '>'} {alpha:g})"


def _floors(
    gate: Gate, candidate: np.ndarray, majority: np.ndarray | None, baseline: np.ndarray | None
) -> tuple[bool, list[str]]:
    """Whether every floor holds, and a reason for each that was set and does not."""
    reasons = []
    accuracy = float(candidate.mean())
    if accuracy < gate.min_accuracy:
        reasons.append(f"accuracy {accuracy:.4f} is below gate.min_accuracy = {gate.min_accuracy:g}")
    if gate.beat_majority:
        assert majority is not None, "evaluation always counts the commonest class"
        reasons += _not_beaten(candidate, majority, _COMMONEST, gate, "beat_majority")
    if gate.beat_baseline:
        if baseline is None:
            raise UserError("gate.beat_baseline needs the cheap baseline: set evaluation.baseline: true")
        reasons += _not_beaten(candidate, baseline, "the cheap baseline", gate, "beat_baseline")
    return not reasons, reasons


def _not_beaten(candidate: np.ndarray, other: np.ndarray, what: str, gate: Gate, setting: str) -> list[str]:
    versus = compare(candidate, other)
    if versus.p_value <= gate.alpha:
        return []
    gain = f"{versus.difference:+.4f} in accuracy, p = {versus.p_value:.2g} > {gate.alpha:g}"
    return [f"not shown to beat {what} ({gain}; gate.{setting})"]
