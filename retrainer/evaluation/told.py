"""The verdict on a model in words: what the report, the card, the closing table and the registry's tags say.

The report is written before the model is registered, so it says what the gate decided; `registration` adds
what came of it. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retrainer.evaluation.words import gain
from retrainer.gate.decision import DECISION
from retrainer.texts import plural

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Told:
    """A verdict in words.

    kind     champion or challenger: the alias that it gives
    badge    a few words for a page's head; why: the heading above the reasons
    reasons  what decided, the most important first, a sentence each, without a full stop
    follows  what comes of it
    to_pass  of a challenger: what would let it pass, and what uses it all the same, a sentence each; else
             nothing
    """

    kind: str
    badge: str
    why: str
    reasons: tuple[str, ...]
    follows: str
    to_pass: tuple[str, ...]


def told(report: Mapping[str, Any]) -> Told:
    """`report` is the content of metrics.json."""
    gate, champion = report["gate"], report.get("champion")
    reasons = tuple(gate["reasons"])
    if gate["verdict"] != CHAMPION:
        stays = f"version {champion['version']} stays champion" if champion else "no version is champion"
        follows = f"It is registered as challenger; {stays}"
        return Told(CHALLENGER, CHALLENGER, "Why challenger", reasons, follows, tuple(to_pass(report)))
    if champion and champion.get("same"):
        follows = "It is the champion already, and stays it"
        return Told(CHAMPION, CHAMPION, "Why it stays champion", reasons, follows, ())
    follows = "It becomes champion when it is registered and has proven to serve"
    return Told(CHAMPION, "passes the gate", "Why it passes the gate", reasons, follows, ())


def registered(report: Mapping[str, Any], registration: Mapping[str, Any]) -> str:
    """The verdict in one line: the alias that the version holds, the gate's word without one, and why."""
    said = told(report)
    return f"{registration.get('alias', said.kind)}: {'; '.join(said.reasons)}"


def to_pass(report: Mapping[str, Any]) -> list[str]:
    """As `Told.to_pass`; the notes of the rules that fail say the rest."""
    gate = report["gate"]
    failing = [rule["name"] for rule in gate.get("rules", ()) if not rule["passed"]]
    said = _comparison(dict(report)) if "comparison" in failing else []
    others = [name for name in failing if name not in ("comparison", DECISION)]
    if others:
        rules = "this rule" if len(others) == 1 else "these rules"
        too = " too" if said else ""
        said.append(f"{rules}{too} must hold, or be set otherwise: {', '.join(others)}")
    return [*said, "to use this one all the same: `make promote VERSION=… WHY=…`"]


def _comparison(report: dict[str, Any]) -> list[str]:
    gate = report["gate"]
    if gate["difference"] is None:
        return ["test rows that both models can answer and the champion was not trained on"]
    said = [_more_rows(report)]
    if gate["policy"] == "better":
        margin = f"{gate['margin']:g}"
        said.append(
            "`gate.policy: not-worse` promotes what is shown to be worse by less than gate.margin"
            f" ({margin}), if at all: it fits where a model of newer rows is worth having though it is no"
            " better; choose it for the recipe, not for one result (docs/trust.md)"
        )
    return said


def _more_rows(report: dict[str, Any]) -> str:
    gate = report["gate"]
    difference, rows = gain(report, gate["difference"]), gate["compared_rows"]
    needed = gate.get("rows_to_pass")  # a report of an older version has none
    what = "better" if gate["policy"] == "better" else "not worse"
    if needed is None and gate["difference"] + (0 if what == "better" else gate["margin"]) > 0:
        return f"a better model, or far more test rows: how many would show {difference} is not known"
    if needed is None:
        return (
            f"a better model: at the measured {difference} no number of test rows shows it to be {what};"
            " `make curve` says what more training rows would give, `make tune` tries other settings"
        )
    more = max(needed - rows, 1)
    return (
        f"about {plural(more, 'more test row')} at the measured {difference}: some {needed:,} compared rows"
        f" show so large a difference with probability {gate['power']:g}"
    )
