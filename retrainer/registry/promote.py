"""A person's word on who is champion: `make promote`, `make rollback`. Both are remembered with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.errors import ModelError
from retrainer.gate.decision import DECISION
from retrainer.registry.history import How, champion_stack, move_champion, moves, new_move, settle
from retrainer.registry.judgement_tags import RULE
from retrainer.registry.lock import registry_lock
from retrainer.registry.standing import tell_standing
from retrainer.registry.unaltered import demanded_key, unaltered_model
from retrainer.services import lookup
from retrainer.services.connection import client, explained
from retrainer.services.lookup import CHAMPION
from retrainer.services.readers import RegisteredVersion
from retrainer.services.scratch import scratch_directory

if TYPE_CHECKING:
    from mlflow import MlflowClient

VERDICT = "verdict"


def promote(name: str, version: str, why: str) -> str:
    """Makes the version champion; returns what was done, in words.

    Raises UserError for a version that is unknown, was never evaluated or proven to serve, or was altered.
    """
    mlflow = client()
    with explained(), registry_lock(name):
        settle(mlflow, name)
        found = proven(name, version)
        champion = lookup.state(name)[CHAMPION]
        if champion == version:
            return f"version {version} is champion of '{name}' already"
        if _verdict(found) != CHAMPION:
            against = "the gate was against it"
            why = f"{why} ({against})" if why else against
        return _move(mlflow, found, champion, "promote", why)


def rollback(name: str, why: str) -> str:
    """Makes the version champion that was it before; returns what was done, in words.

    Raises UserError when history knows of none, and when that version is gone or was altered.
    """
    mlflow = client()
    with explained(), registry_lock(name):
        settle(mlflow, name)
        champion = lookup.state(name)[CHAMPION]
        before = champion_stack(moves(name), champion)[:-1]
        if champion is None:
            raise ModelError(f"'{name}' has no champion to take back; `make promote VERSION=…` makes one")
        if not before:
            raise ModelError(f"'{name}' had no champion before this one; `make history` shows what there was")
        if lookup.by_version(name, before[-1]) is None:
            raise ModelError(
                f"version {before[-1]}, the champion of '{name}' before version {champion}, was deleted;"
                " `make promote VERSION=…` makes another one champion"
            )
        return _move(mlflow, proven(name, before[-1]), champion, "rollback", why)


def proven(name: str, version: str) -> RegisteredVersion:
    """The version, when it may be champion. Raises UserError that says why not, and the cure."""
    uri = f"models:/{name}/{version}"
    found = lookup.by_version(name, version)
    if found is None:
        raise ModelError(
            f"{uri}: there is no such version; `make history` and `make ui` show those there are"
        )
    if not found.model_sha256:
        raise ModelError(f"{uri} was not registered by retrainer; nothing is known of what it serves")
    if VERDICT not in found.tags or "evaluation_run_id" not in found.tags:
        raise ModelError(f"{uri} was never evaluated; run `make pipeline` for that model")
    if not found.usable:
        raise ModelError(f"{uri} was never proven to serve; run `make pipeline` for that model")
    with scratch_directory() as scratch:
        unaltered_model(found, scratch / "files", demanded_key(found))
    return found


def _verdict(version: RegisteredVersion) -> str:
    """The gate's own: that somebody took the alias from the version is no word of the gate against it."""
    failing = [tag for tag, text in version.tags.items() if tag.startswith(RULE) and text.startswith("fails")]
    return CHAMPION if failing == [f"{RULE}{DECISION}"] else version.tags[VERDICT]


def _move(mlflow: MlflowClient, version: RegisteredVersion, champion: str | None, how: How, why: str) -> str:
    """`champion` is the one that the decision was made against."""
    name, verdict = version.name, _verdict(version)
    move_champion(mlflow, name, new_move(name, how, champion, version.version, why, verdict))
    tell_standing(mlflow, name, (version.version, champion))
    was = f"version {champion} was" if champion else "there was none before"
    return f"version {version.version} is champion of '{name}' ({was}; the gate's verdict on it: {verdict})"
