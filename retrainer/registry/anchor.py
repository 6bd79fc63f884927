"""The anchor of a registered model: the best champion so far, which no candidate may fall below.

It is remembered by tags of the registered model, one for each time that it moved:

    retrainer.anchor.<UTC, to the microsecond>-<8 random digits>  =  JSON, the fields of Anchoring

The anchor is the version of the newest entry that is, or was, champion and was not rolled back. So a rollback
takes the anchor back with the champion, and undoing it brings both again. Register writes an entry, before
the alias moves, when it promotes a model that is shown to be better than the anchor; of a promotion that
then fails, the entry names a version that was never champion, and counts for nothing. `make anchor` writes
one by a person's decision. What a person promotes by hand moves no anchor.

Before the first entry: the newest champion that `gate.policy: better` promoted, before there were anchors,
and without one the first champion.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from retrainer.errors import ModelError
from retrainer.registry.history import champion_stack, moves
from retrainer.registry.lock import registry_lock
from retrainer.services import lookup
from retrainer.services.actor import printable, who

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "retrainer.anchor."
# MLflow's database takes 5,000 characters a tag.
_WHY_CHARACTERS = 1000
_TIME = "%Y%m%dT%H%M%S.%f"


@dataclass(frozen=True)
class Anchoring:
    """One move of the anchor to `version`, from `before`; `when` is UTC by the writer's clock."""

    key: str
    how: Literal["register", "anchor"]
    who: str
    when: str
    before: str
    version: str
    why: str


def anchorings(name: str) -> list[Anchoring]:
    """Every entry of the registered model, oldest first. A tag that holds no entry is passed over."""
    found = [_read(key, value) for key, value in lookup.tags_of(name).items() if key.startswith(PREFIX)]
    return sorted((one for one in found if one), key=lambda one: one.key)


def _read(key: str, value: str) -> Anchoring | None:
    try:
        _time_of(key)
        fields: dict[str, Any] = {name: printable(text) for name, text in json.loads(value).items()}
        entry = Anchoring(key=key, **fields)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return entry if entry.version.isascii() and entry.version.isdigit() else None


def _time_of(key: str) -> datetime:
    return datetime.strptime(key.removeprefix(PREFIX).partition("-")[0], _TIME).replace(tzinfo=UTC)


def anchor_of(name: str) -> str | None:
    """The version that is the anchor; None without a champion."""
    champion = lookup.state(name)[lookup.CHAMPION]
    if champion is None:
        return None
    stack = champion_stack(moves(name), champion)
    held = [one.version for one in anchorings(name) if one.version in stack]
    return held[-1] if held else _before_anchors(name, stack)


def _before_anchors(name: str, stack: Sequence[str]) -> str:
    by_gate = {move.to for move in moves(name) if move.how == "register"}
    for version in reversed(stack[1:]):
        found = lookup.by_version(name, version) if version in by_gate else None
        if found and found.tags.get("gate.policy") == "better" and "gate.anchor.version" not in found.tags:
            return version
    return stack[0]


def remember_anchor(
    mlflow: MlflowClient, name: str, how: Literal["register", "anchor"], version: str, why: str
) -> Anchoring:
    """Writes the entry. Must run under the name's lock."""
    now = datetime.now(UTC)
    later = [_time_of(one.key) + timedelta(microseconds=1) for one in anchorings(name)[-1:]]
    key = f"{PREFIX}{max([now, *later]):{_TIME}}-{secrets.token_hex(4)}"
    why = printable(" ".join(why.split()))[:_WHY_CHARACTERS]
    entry = Anchoring(key, how, who(), now.isoformat(timespec="seconds"), anchor_of(name) or "", version, why)
    fields = {field: text for field, text in asdict(entry).items() if field != "key"}
    mlflow.set_registered_model_tag(name, key, json.dumps(fields, ensure_ascii=False))
    return entry


def refuse_if_anchor_moved(name: str, judged: Mapping[str, Any] | None) -> None:
    """`judged`: the anchor of a verdict. Raises UserError unless it is the anchor still."""
    if judged is not None and not anchor_is(name, judged):
        raise ModelError(
            f"the anchor of '{name}' changed since evaluate judged (then version {judged['version']}, now"
            f" version {anchor_of(name)}); run evaluate again"
        )


def anchor_is(name: str, judged: Mapping[str, Any] | None) -> bool:
    """Whether the anchor is the one that a verdict was made with; a verdict without one agrees with any."""
    return judged is None or anchor_of(name) == str(judged["version"])


def move_anchor(name: str, version: str, why: str) -> str:
    """Makes a version the anchor by a person's decision; returns what was done, in words.

    Raises UserError without a reason, and for a version that was never champion or was rolled back.
    """
    from retrainer.services.connection import client, explained

    if not why.strip():
        raise ModelError(f'say why the anchor moves: make anchor VERSION={version} WHY="…"')
    mlflow = client()
    with explained(), registry_lock(name):
        champion = lookup.state(name)[lookup.CHAMPION]
        stack = champion_stack(moves(name), champion) if champion else []
        if version not in stack or lookup.by_version(name, version) is None:
            raise ModelError(
                f"version {version} of '{name}' is no champion, nor was it one that stayed, so it cannot be"
                f" the anchor: one of {', '.join(dict.fromkeys(stack)) or 'none'} can"
            )
        if anchor_of(name) == version:
            return f"version {version} is the anchor of '{name}' already"
        before = remember_anchor(mlflow, name, "anchor", version, why).before
    return (
        f"version {version} is the anchor of '{name}' (version {before} was): a model is promoted by"
        " gate.policy not-worse only if it is not worse than that one by the margin either; `make step"
        " STEP=evaluate` and then `make pipeline` judge again a model that was held"
    )
