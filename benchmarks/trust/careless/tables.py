"""The tables of benchmarks/trust/README.md from what was kept."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from benchmarks.trust.careless.mistakes import EVERY, MISTAKES, Mistake

PEERS = ("trainer", "autogluon", "ludwig")
# A line that a library prints of this month and of no clean one names the mistake if it holds such a word.
PEER_WORDS = re.compile(
    r"label|class|column|encod|decod|codec|empty|nan\b|null|missing|duplicat|truncat|identify|unique|silent|invalid"
)
Kept = dict[str, Any]


def tables(kept: Kept) -> str:
    return "\n\n".join((summary(kept), by_mistake(kept), alarms(kept)))


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _cell(one: Kept | None) -> str:
    if one is None:
        return ""
    word = one["decision"]
    if word in ("stopped", "held"):
        word = f"{word}, {one['step']}" if word == "stopped" else word
        word += "" if one["named"] or one["expected"] == "harmless" else ", for another reason"
    elif one["named"]:
        word = f"named, {word}"
    return word if one["met"] else f"**{word}**"


def by_mistake(kept: Kept) -> str:
    lines = [
        _row("mistake", "expected", *EVERY, *_peer_names(kept)),
        "|---" * (2 + len(EVERY) + len(_peer_names(kept))) + "|",
    ]
    for mistake in MISTAKES:
        ours = [_cell(kept["ours"].get(kind, {}).get("mistakes", {}).get(mistake.name)) for kind in EVERY]
        lines.append(_row(mistake.name, mistake.expected, *ours, *_peer_cells(kept, mistake)))
    return "\n".join(lines)


def _peer_names(kept: Kept) -> list[str]:
    return [f"{peer}, {kind}" for peer in PEERS if peer in kept for kind in EVERY if kind in kept[peer]]


def _peer_cells(kept: Kept, mistake: Mistake) -> list[str]:
    found = []
    for name in _peer_names(kept):
        peer, kind = name.split(", ")
        one = kept[peer][kind]["months"].get(mistake.name)
        found.append(peer_cell(one) if one else "")
    return found


def peer_names_it(one: Kept) -> bool:
    lines = [one.get("error", ""), *one["new"]]
    return any(PEER_WORDS.search(line.lower()) for line in lines)


def peer_cell(one: Kept) -> str:
    word: str = one["decision"]
    if "truth" in one and one["truth"][0] < one["truth"][1]:
        word = "promoted, worse"
    return f"{word}, named" if peer_names_it(one) else word


def summary(kept: Kept) -> str:
    """One line a pipeline and dataset: what became of the careless months, and of the clean ones."""
    head = (
        "pipeline",
        "months",
        "stopped",
        "held",
        "only named",
        "not promoted",
        "promoted",
        "truly worse",
        "named in all",
    )
    lines = [_row(*head), "|---" * len(head) + "|"]
    for kind, part in kept["ours"].items():
        ones = list(part["mistakes"].values())
        lines.append(_summed(f"Retrainer, {kind}", ones, [one["named"] for one in ones]))
    for name in _peer_names(kept):
        peer, kind = name.split(", ")
        mistakes = {mistake.name for mistake in MISTAKES}
        ones = [one for key, one in kept[peer][kind]["months"].items() if key in mistakes]
        lines.append(_summed(name, ones, [peer_names_it(one) for one in ones]))
    return "\n".join(lines)


def _summed(name: str, ones: list[Kept], named: list[bool]) -> str:
    what = Counter(one["decision"] for one in ones)
    alone = sum(
        word and one["decision"] in ("promoted", "not promoted")
        for one, word in zip(ones, named, strict=True)
    )
    worse = sum(one["truth"][0] < one["truth"][1] for one in ones if one.get("truth"))
    return _row(
        name,
        len(ones),
        what["stopped"],
        what["held"],
        alone,
        what["not promoted"],
        what["promoted"],
        worse,
        sum(named),
    )


def alarms(kept: Kept) -> str:
    lines = [
        _row("clean months", "months", "stopped or held", "a check that was silent last month", "promoted"),
        "|---" * 5 + "|",
    ]
    for kind, part in kept["ours"].items():
        ones = list(part["clean"].values())
        what = Counter(one["decision"] for one in ones)
        spoke = sum(bool(one["alarms"]) for one in ones) - what["stopped"] - what["held"]
        lines.append(_row(kind, len(ones), what["stopped"] + what["held"], spoke, what["promoted"]))
    return "\n".join(lines)
