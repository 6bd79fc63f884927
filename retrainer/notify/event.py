"""What a notification says: names, numbers and words of a fixed list; nothing that data may hold.

A gate's sentences quote values of slices, and an error's message quotes files, rows and classes: neither gets
in. What does is held to its shape here, so that no caller can let more in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Kind = Literal["failed", "promoted", "refused", "nothing-new", "finished", "test"]

FORMAT_VERSION = 1

# Why Kubernetes, or this machine, ended a step.
CAUSES = ("out of memory", "out of time", "evicted", "image not pulled", "pod lost", "terminated", "killed")

_SHAPES = {
    "id": r"[0-9a-f]{16}",
    "recipe": r"[\w.+/ -]{1,100}",
    "model": r"[\w.+/ -]{1,200}",
    "version": r"[0-9]{1,9}",
    "champion": r"[0-9]{1,9}",
    "verdict": r"champion|challenger",
    "step": r"[a-z][a-z0-9-]{0,40}",
    "cause": "|".join(CAUSES),
    "kfp_run_id": r"[0-9a-f-]{1,64}",
    "metric": r"[a-z][a-z0-9_.]{0,79}",
    "link": r"https?://[^\s@?<>|\"()\[\]]{1,500}",
    "time": r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00",
}
# The rules that a gate has by itself; the others are named after a column and its value.
_RULES = {
    "comparison": "comparison with the champion",
    "anchor": "comparison with the anchor",
    "decision": "nobody took the alias from it",
    "classes": "classes that appear or vanish",
    "collapse": "classes and slices that collapse",
    "metric": "bound of the gate's metric",
    "beats_the_trivial_baseline": "better than the trivial baseline",
    "beats_the_baseline": "better than the cheap baseline",
    "calibration_error": "calibration error",
    "latency": "latency in ms",
    "model_size": "model size in MB",
    "data_since_the_champion_s": "changes of the data since the champion's",
}
_SLICES = "slices below their floor"
_RULE_TAG = "gate.rule."
_METRIC_TAG, _VALUE_TAG = "gate.metric", "gate.value"
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*(?:e[-+]?[0-9]+)?|inf|nan)"
_ROWS_TAG, _LEFT_OUT_TAG, _FOUND_TAG = "data.rows_in", "data.left_out", "data.found"
# Checks are named by the library, never by the data.
_CHECK = r"[a-z][a-z_]{0,39}"
_FOUND = re.compile(rf"({_CHECK}) ([0-9]{{1,12}})")
_OUTCOME = re.compile(rf"(holds|fails): ({_NUMBER}|nothing measured), bound ({_NUMBER})")


@dataclass(frozen=True)
class Rule:
    """One rule of the gate; `value` is None where there was nothing to measure."""

    rule: str
    passed: bool
    value: float | None
    bound: float


@dataclass(frozen=True)
class Found:
    """A check of the data, and how many things it found."""

    check: str
    count: int


@dataclass(frozen=True)
class Event:
    """What happened. `None` says that a field does not apply; a text that has not its shape becomes None.

    id           the same for the same event, so that a receiver knows what it has already got
    champion     the version that is champion now
    metric       the gate's, by its name in the settings; `value` is the new version's on the test rows
    rows_in      rows that came in, of which `left_out` were left out; `found`: what the checks of them found,
                 empty for nothing, None where it is not known
    step         that failed, or that ended the run early
    exit_status  of that step's command; on a cluster Kubeflow's launcher hides it, and always says 1
    link         to MLflow's page of the run, without credentials
    time         when the run ended, UTC; `seconds` is how long it took
    """

    event: Kind
    id: str
    recipe: str | None
    time: str | None
    model: str | None = None
    version: str | None = None
    champion: str | None = None
    verdict: str | None = None
    metric: str | None = None
    value: float | None = None
    rules: tuple[Rule, ...] = ()
    rows_in: int | None = None
    left_out: int | None = None
    found: tuple[Found, ...] | None = None
    step: str | None = None
    exit_status: int | None = None
    cause: str | None = None
    kfp_run_id: str | None = None
    link: str | None = None
    seconds: float | None = None
    format_version: int = field(default=FORMAT_VERSION)

    def __post_init__(self) -> None:
        assert self.event in get_args(Kind), self.event
        for name, shape in _SHAPES.items():
            value = getattr(self, name)
            if not (isinstance(value, str) and re.fullmatch(shape, value)):
                object.__setattr__(self, name, None)
        for name in ("exit_status", "seconds", "value", "rows_in", "left_out"):
            if not isinstance(getattr(self, name), int | float):
                object.__setattr__(self, name, None)
        if self.found is not None:
            known = (one for one in self.found if re.fullmatch(_CHECK, one.check))
            object.__setattr__(self, "found", tuple(known))

    def plain(self) -> dict[str, Any]:
        found = None if self.found is None else [asdict(one) for one in self.found]
        return asdict(self) | {"rules": [asdict(rule) for rule in self.rules], "found": found}


def from_plain(plain: Mapping[str, Any]) -> Event:
    """The event that `plain` wrote. Raises ValueError, TypeError or KeyError for what it did not write."""
    if plain["format_version"] != FORMAT_VERSION or plain["event"] not in get_args(Kind):
        raise ValueError("an event of another version")
    rules = tuple(Rule(**rule) for rule in plain["rules"] if rule["rule"] in (*_RULES.values(), _SLICES))
    # One that has waited since before there were any has none.
    checks = None if plain.get("found") is None else tuple(Found(**one) for one in plain["found"])
    return Event(**{**plain, "rules": rules, "found": checks})


def judgement_of(tags: Mapping[str, str]) -> dict[str, Any]:
    """`metric`, `value`, `rules` and the data's fields of an event, from the tags of a registered version."""
    value = tags.get(_VALUE_TAG, "")
    number = _number(value) if re.fullmatch(_NUMBER, value) else None
    return {"metric": tags.get(_METRIC_TAG), "value": number, "rules": rules_of(tags), **data_of(tags)}


def data_of(tags: Mapping[str, str]) -> dict[str, Any]:
    """`rows_in`, `left_out` and `found` of an event; nothing where the tags do not say it."""
    rows, left_out = (tags.get(tag, "") for tag in (_ROWS_TAG, _LEFT_OUT_TAG))
    if not (re.fullmatch("[0-9]{1,12}", rows) and re.fullmatch("[0-9]{1,12}", left_out)):
        return {}
    parts = [_FOUND.fullmatch(part) for part in tags.get(_FOUND_TAG, "").split(", ")]
    found = tuple(Found(part[1], int(part[2])) for part in parts if part)
    return {"rows_in": int(rows), "left_out": int(left_out), "found": found}


def rules_of(tags: Mapping[str, str]) -> tuple[Rule, ...]:
    """The gate's rules from the tags of a registered version (`registry.judgement_tags`).

    Rules on slices are named after data, so they are only counted.
    """
    own: list[Rule] = []
    slices: list[Rule] = []
    for name, outcome in _outcomes(tags):
        rule = Rule(_RULES.get(name, ""), outcome[1] == "holds", _number(outcome[2]), float(outcome[3]))
        (own if rule.rule else slices).append(rule)
    below = sum(not rule.passed for rule in slices)
    return (*own, Rule(_SLICES, below == 0, below, 0)) if slices else tuple(own)


def _outcomes(tags: Mapping[str, str]) -> Iterator[tuple[str, re.Match[str]]]:
    for tag, value in tags.items():
        if tag.startswith(_RULE_TAG) and (outcome := _OUTCOME.fullmatch(value)):
            yield tag.removeprefix(_RULE_TAG), outcome


def _number(text: str) -> float | None:
    value = math.nan if text == "nothing measured" else float(text)
    return value if math.isfinite(value) else None  # JSON knows no other number
