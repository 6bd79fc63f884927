"""The tables of benchmarks/trust/README.md from what was kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

from benchmarks.trust.careless.mistakes import EVERY, MISTAKES

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
    lines = [_row("mistake", "expected", *EVERY), "|---" * (2 + len(EVERY)) + "|"]
    for mistake in MISTAKES:
        found = [kept["ours"].get(kind, {}).get("mistakes", {}).get(mistake.name) for kind in EVERY]
        lines.append(_row(mistake.name, mistake.expected, *map(_cell, found)))
    return "\n".join(lines)


def summary(kept: Kept) -> str:
    """One line a dataset: what became of the careless months."""
    head = ("data", "months", "stopped", "held", "only named", "neither", "of these promoted", "truly worse")
    lines = [_row(*head, "named in all", "as expected"), "|---" * (len(head) + 2) + "|"]
    return "\n".join(
        [*lines, *(_summed(kind, list(part["mistakes"].values())) for kind, part in kept["ours"].items())]
    )


def _summed(name: str, ones: list[Kept]) -> str:
    what = Counter(one["decision"] for one in ones)
    went_on = [one for one in ones if one["decision"] in ("promoted", "not promoted")]
    named = sum(one["named"] for one in went_on)
    neither = [one for one in went_on if not one["named"]]
    promoted = [one for one in neither if one["decision"] == "promoted"]
    worse = sum(one["truth"][0] < one["truth"][1] for one in promoted if one.get("truth"))
    counts = (len(ones), what["stopped"], what["held"], named, len(neither), len(promoted), worse)
    return _row(name, *counts, sum(one["named"] for one in ones), sum(one["met"] for one in ones))


def alarms(kept: Kept) -> str:
    lines = [
        _row("clean months", "months", "stopped or held", "a check that was silent last month", "promoted"),
        "|---" * 5 + "|",
    ]
    for kind, part in kept["ours"].items():
        ones = list(part.get("clean", {}).values())
        what = Counter(one["decision"] for one in ones)
        spoke = sum(bool(one["alarms"]) for one in ones) - what["stopped"] - what["held"]
        lines.append(_row(kind, len(ones), what["stopped"] + what["held"], spoke, what["promoted"]))
    return "\n".join(lines)
