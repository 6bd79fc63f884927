"""The tables of benchmarks/trust/README.md from what was kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from benchmarks.trust.careless.mistakes import EVERY, MISTAKES

# A line that a library prints this month, and in no clean one, is a warning if it has one of these words.
WARNING = re.compile(
    r"warn|error|invalid|missing|not in|cannot|could not|unable|empty|dropp|skipp|fewer|duplicat",
    re.IGNORECASE,
)
Kept = dict[str, Any]


def tables(kept: Kept, peers: Kept) -> str:
    parts = (summary(kept), summary_of_peers(peers), by_mistake(kept, peers), alarms(kept, peers))
    return "\n\n".join(part for part in parts if part)


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|---" * len(cells) + "|"]


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


def by_mistake(kept: Kept, peers: Kept) -> str:
    ours = {kind: part["mistakes"] for kind, part in kept["ours"].items() if "mistakes" in part}
    lines = _head("mistake", "expected", *ours, *(f"{name}, {kind}" for name, kind, _ in _peers(peers)))
    for mistake in MISTAKES:
        found = [months.get(mistake.name) for months in ours.values()]
        theirs = [peer_cell(months.get(mistake.name)) for _, _, months in _peers(peers)]
        lines.append(_row(mistake.name, mistake.expected, *map(_cell, found), *theirs))
    return "\n".join(lines)


def _peers(peers: Kept) -> Iterator[tuple[str, str, Kept]]:
    """Name, dataset and months of each."""
    for name, part in peers.items():
        for kind in EVERY:
            if kind in part:
                yield name, kind, part[kind]["months"]


def warned(one: Kept) -> bool:
    return any(WARNING.search(line) for line in one["new_lines"])


def peer_cell(one: Kept | None) -> str:
    if one is None:
        return ""
    word: str = one["decision"]
    if word == "promoted" and _worse(one):
        word = "promoted, truly worse"
    return f"{word}, with a warning" if word != "stopped" and warned(one) else word


def _worse(one: Kept) -> bool:
    return bool(one.get("truth")) and one["truth"][0] < one["truth"][1]


def summary(kept: Kept) -> str:
    """One line a dataset: what became of the careless months."""
    head = ("data", "months", "stopped", "held", "only named", "neither", "of these promoted", "truly worse")
    lines = _head(*head, "named in all", "as expected")
    parts = {kind: part["mistakes"] for kind, part in kept["ours"].items() if "mistakes" in part}
    return "\n".join([*lines, *(_summed(kind, list(ones.values())) for kind, ones in parts.items())])


def _summed(name: str, ones: list[Kept]) -> str:
    what = Counter(one["decision"] for one in ones)
    went_on = [one for one in ones if one["decision"] in ("promoted", "not promoted")]
    named = sum(one["named"] for one in went_on)
    neither = [one for one in went_on if not one["named"]]
    promoted = [one for one in neither if one["decision"] == "promoted"]
    counts = (len(ones), what["stopped"], what["held"], named, len(neither), len(promoted))
    return _row(
        name,
        *counts,
        sum(map(_worse, promoted)),
        sum(one["named"] for one in ones),
        sum(one["met"] for one in ones),
    )


def summary_of_peers(peers: Kept) -> str:
    if not peers:
        return ""
    lines = _head(
        "pipeline", "months", "stopped", "not promoted", "promoted", "truly worse", "with a warning"
    )
    for name, kind, months in _peers(peers):
        ones = [one for one in months.values() if one["expected"] != "clean"]
        what = Counter(one["decision"] for one in ones)
        counts = (len(ones), what["stopped"], what["not promoted"], what["promoted"], sum(map(_worse, ones)))
        went_on = [one for one in ones if one["decision"] != "stopped"]
        lines.append(_row(f"{name}, {kind}", *counts, sum(map(warned, went_on))))
    return "\n".join(lines)


def alarms(kept: Kept, peers: Kept) -> str:
    head = ("clean months", "months", "stopped or held", "of these a class truly fell")
    lines = _head(*head, "a check that was silent before", "promoted")
    for kind, part in kept["ours"].items():
        ones = list(part.get("clean", {}).values())
        what = Counter(one["decision"] for one in ones)
        halted = [one for one in ones if one["decision"] in ("stopped", "held")]
        right = [one for one in halted if one["decision"] not in one["alarms"]]
        spoke = sum(bool(one["alarms"]) for one in ones if one not in halted)
        lines.append(_row(kind, len(ones), len(halted), len(right), spoke, what["promoted"]))
    for name, kind, months in _peers(peers):
        ones = [one for one in months.values() if one["expected"] == "clean"]
        what = Counter(one["decision"] for one in ones)
        lines.append(_row(f"{name}, {kind}", len(ones), what["stopped"], "", "", what["promoted"]))
    return "\n".join(lines)
