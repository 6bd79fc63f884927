"""What became of a registered version: which alias it holds, by whose decision and why, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.gate.decision import Decision
from retrainer.registry.history import DONE, Move, moved_by_another_tool, moves, removed_by_person
from retrainer.services import lookup
from retrainer.services.lookup import CHALLENGER, CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Tag of a version: its standing in words.
STANDING = "standing"

_BY_PERSON = ("promote", "rollback")
_ANOTHER_TOOL = "another tool than retrainer"


@dataclass(frozen=True)
class Standing:
    """`alias` is champion, challenger or empty; `why` says how it came about, empty where nobody knows."""

    alias: str
    why: str

    def __str__(self) -> str:
        return f"{self.alias or 'no alias'}{': ' if self.why else ''}{self.why}"


def standing(name: str, version: str) -> Standing:
    """Of a version as the registry has it now."""
    state, entries = lookup.state(name), moves(name)
    held = next((alias for alias in (CHAMPION, CHALLENGER) if state[alias] == version), "")
    if held == CHAMPION:
        return Standing(held, _made(name, version, entries))
    if taken := _taken(name, version, entries):
        return Standing(held, taken)
    if (last := _last([one for one in entries if one.before == version])) is not None:
        replaced = f"champion until {_day(last)}, when the gate promoted version {last.to}"
        return Standing(held, replaced)
    return Standing(held, "the gate did not promote it" if held else "a later version is challenger")


def decision_on(name: str, model_sha256: str) -> Decision | None:
    """What somebody decided about the version that holds this very model; None where nobody did.

    A promotion or a rollback by a person, or a move of the alias by another tool than retrainer.
    """
    version = lookup.by_sha256(name, model_sha256)
    if version is None:
        return None
    entries, number = moves(name), version.version
    if lookup.state(name)[CHAMPION] == number:
        last = _last([one for one in entries if one.to == number])
        by_person = last is not None and last.how in _BY_PERSON
        if by_person or moved_by_another_tool(name, number) is not None:
            return Decision(False, _made(name, number, entries))
        return None
    taken = _taken(name, number, entries)
    return Decision(True, f"{taken}; `make promote VERSION={number}` gives it back") if taken else None


def tell_standing(mlflow: MlflowClient, name: str, versions: Iterable[str | None]) -> None:
    """Writes the standing of these versions as their tag, those that are there."""
    for version in sorted(filter(None, versions)):
        found = lookup.by_version(name, version)
        said = str(standing(name, version))
        if found is not None and found.tags.get(STANDING) != said:
            mlflow.set_model_version_tag(name, version, STANDING, said)


def _made(name: str, version: str, entries: Sequence[Move]) -> str:
    """How the champion became it; empty where no entry says it."""
    if moved_by_another_tool(name, version) is not None:
        return f"{_ANOTHER_TOOL} moved the alias to version {version}"
    last = _last([one for one in entries if one.to == version])
    if last is None:
        return ""
    if last.how not in _BY_PERSON:
        return f"since {_day(last)}: {last.why}"
    went = "made it champion" if last.how == "promote" else f"went back to it from version {last.before}"
    return f"on {_day(last)} {last.who} {went} (make {last.how}{_because(last)})"


def _taken(name: str, version: str, entries: Sequence[Move]) -> str:
    """Who took the alias champion from the version against the gate's word; empty where nobody did."""
    move = removed_by_person(entries, version)
    if move is not None:
        gave = f"took the championship from version {version} and gave it to version {move.to}"
        return f"on {_day(move)} {move.who} {gave} (make {move.how}{_because(move)})"
    champion = lookup.state(name)[CHAMPION]
    if champion != version and moved_by_another_tool(name, champion) == version:
        to = f"to version {champion}" if champion else "away"
        return f"{_ANOTHER_TOOL} moved the alias champion from version {version} {to}"
    return ""


def _last(found: Sequence[Move]) -> Move | None:
    done = [one for one in found if one.state == DONE]
    return done[-1] if done else None


def _day(move: Move) -> str:
    return move.when.partition("T")[0]


def _because(move: Move) -> str:
    return f": {move.why}" if move.why else ""
