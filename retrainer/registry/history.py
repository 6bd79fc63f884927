"""The memory of the alias `champion`: each of its moves is an entry that stays.

MLflow keeps no history of aliases, so an entry is a tag of the registered model:

    retrainer.move.<UTC, to the microsecond>-<8 random digits>  =  JSON, the fields of Move

The time is later than that of every entry before it, whatever the writer's clock says (Lamport's clock,
CACM 21 (1978), 558–565), so the order of the keys is the order of the moves.

It is written as `moving` before the alias moves and as `done` after. The alias itself is only ever set, so
it is never absent. What a crash left `moving` is settled by whoever comes next: `done` when the alias is
where the entry wanted it, else `not done`.

Two at once. On one machine, and on one sqlite file, a lock lets one after the other move. A server that
several machines use knows no compare-and-swap, but every write can be read by all who read later. So a move
writes its entry first, then reads the others': who sees an earlier unsettled entry withdraws, and who sees
a later one waits for it to be withdrawn. At least one of two sees the other, therefore never both move
(the idea of Lamport's bakery, CACM 17 (1974), 453–455). What remains: a machine that sleeps for longer than
PATIENCE_SECONDS between its entry and its move counts as crashed, and a person who sets the alias by
MLflow's own tools asks nobody.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from retrainer.errors import ModelError, UserError
from retrainer.registry.lock import holds_for_all
from retrainer.services import lookup
from retrainer.services.actor import printable, who
from retrainer.services.lookup import CHALLENGER, CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "retrainer.move."
MOVING, DONE, NOT_DONE = "moving", "done", "not done"
PATIENCE_SECONDS = 30.0

# MLflow's database takes 5,000 characters a tag.
_WHY_CHARACTERS = 1000
_POLL_SECONDS = 0.5
_NUMBER = re.compile("[0-9]+")
_TIME = "%Y%m%dT%H%M%S.%f"

How = Literal["register", "promote", "rollback"]


@dataclass(frozen=True)
class Move:
    """One move of the alias. `before` and `to` are versions; `before` is empty when there was no champion.

    `process` names the writer for good (see services/runs.py); `when` is UTC by the writer's clock.
    """

    key: str
    how: str
    who: str
    when: str
    before: str
    to: str
    why: str
    verdict: str
    process: str
    state: str = MOVING


def new_move(name: str, how: How, before: str | None, to: str, why: str, verdict: str) -> Move:
    from retrainer.services.processes import this_process

    now = datetime.now(UTC)
    later = [_time_of(move.key) + timedelta(microseconds=1) for move in moves(name)[-1:]]
    key = f"{PREFIX}{max([now, *later]):{_TIME}}-{secrets.token_hex(4)}"
    why = printable(" ".join(why.split()))[:_WHY_CHARACTERS]
    when = now.isoformat(timespec="seconds")
    return Move(key, how, who(), when, before or "", to, why, verdict, this_process())


def _time_of(key: str) -> datetime:
    """The time in an entry's key. Raises ValueError when it is the key of something else."""
    time_of_it, _, digits = key.removeprefix(PREFIX).partition("-")
    if len(digits) != 8:
        raise ValueError(key)
    return datetime.strptime(time_of_it, _TIME).replace(tzinfo=UTC)


def moves(name: str) -> list[Move]:
    """Every entry of the registered model, oldest first. A tag that holds no entry is passed over.

    Anyone can edit tags: what is no entry of ours by its form is none, and the rest may be printed.
    """
    found = [_read(key, value) for key, value in lookup.tags_of(name).items() if key.startswith(PREFIX)]
    return sorted((move for move in found if move), key=lambda move: move.key)


def _read(key: str, value: str) -> Move | None:
    try:
        _time_of(key)
        fields: dict[str, Any] = json.loads(value)
        move = Move(key=key, **{field: printable(text) for field, text in fields.items()})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    numbers = _NUMBER.fullmatch(move.to) and _NUMBER.fullmatch(move.before or move.to)
    return move if numbers and move.state in (MOVING, DONE, NOT_DONE) else None


def _write(mlflow: MlflowClient, name: str, move: Move) -> None:
    fields = {field: text for field, text in asdict(move).items() if field != "key"}
    mlflow.set_registered_model_tag(name, move.key, json.dumps(fields, ensure_ascii=False))


def move_champion(mlflow: MlflowClient, name: str, move: Move) -> None:
    """Sets `name@champion` to `move.to`, remembered. Must run under the name's lock, after `settle`.

    Raises UserError, and leaves the alias alone, when the champion is not `move.before` any more or somebody
    else is moving it. A champion is not its own challenger.
    """
    _write(mlflow, name, move)
    try:
        _await_turn(mlflow, name, move)
    except UserError:
        _write(mlflow, name, replace(move, state=NOT_DONE))
        raise
    mlflow.set_registered_model_alias(name, CHAMPION, move.to)
    _end_challenge(mlflow, name)
    _write(mlflow, name, replace(move, state=DONE))
    if (now := lookup.state(name)[CHAMPION]) != move.to:
        raise ModelError(
            f"'{name}': version {move.to} became champion, and somebody else made version {now or 'none'} it"
            " at once"
        )


def _end_challenge(mlflow: MlflowClient, name: str) -> None:
    state = lookup.state(name)
    if state[CHALLENGER] is not None and state[CHALLENGER] == state[CHAMPION]:
        mlflow.delete_registered_model_alias(name, CHALLENGER)


def _await_turn(mlflow: MlflowClient, name: str, mine: Move) -> None:
    """Returns when no other entry is unsettled and the champion is still the one that `mine` names."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        left = _unsettled(name)
        others = [move for move in left if move.key != mine.key]
        if not others:
            break
        first = others[0]
        if first.key < mine.key:
            raise ModelError(
                f"{first.who} is moving the champion of '{name}' to version {first.to} at this moment;"
                " run the same command again"
            )
        if time.monotonic() > until:
            _settle_all(mlflow, name, others)
        time.sleep(_POLL_SECONDS)
    now = lookup.state(name)[CHAMPION] or ""
    if now != mine.before or len(left) == len(others):  # or somebody took this process for crashed
        raise ModelError(
            f"the champion of '{name}' changed meanwhile (then {_named(mine.before)}, now {_named(now)});"
            " run the same command again"
        )


def _named(version: str) -> str:
    return f"version {version}" if version else "none"


def _unsettled(name: str) -> list[Move]:
    return [move for move in moves(name) if move.state == MOVING]


def settle(mlflow: MlflowClient, name: str, patience_seconds: float = PATIENCE_SECONDS) -> list[Move]:
    """Ends what a crash left `moving`, and returns it as it is now. Must run under the name's lock.

    A move that another machine may still be making is waited for.
    """
    from retrainer.services.processes import is_gone, this_process

    settled = []
    until = time.monotonic() + patience_seconds
    while left := _unsettled(name):
        late = holds_for_all() or time.monotonic() > until
        dead = [move for move in left if late or move.process == this_process() or is_gone(move.process)]
        settled += _settle_all(mlflow, name, dead)
        if len(dead) < len(left):
            time.sleep(_POLL_SECONDS)
    return settled


def _settle_all(mlflow: MlflowClient, name: str, left: Sequence[Move]) -> list[Move]:
    champion = lookup.state(name)[CHAMPION]
    settled = [replace(move, state=DONE if move.to == champion else NOT_DONE) for move in left]
    if settled:
        _end_challenge(mlflow, name)
    for move in settled:
        _write(mlflow, name, move)
    return settled


def moved_by_another_tool(name: str, champion: str | None) -> str | None:
    """The version that retrainer's last move made champion, where the alias has been moved since by another
    tool; else None. A move that a crash left unsettled counts when the alias is where it wanted it."""
    last = [one for one in moves(name) if one.state == DONE or (one.state == MOVING and one.to == champion)]
    return last[-1].to if last and last[-1].to != (champion or "") else None


def champion_stack(entries: Sequence[Move], champion: str | None) -> list[str]:
    """The versions that a rollback goes back through: the present champion last.

    A rollback takes back the move that brought the champion, so what it left is not gone back to. A move
    that no entry tells of (made by MLflow's own tools) counts as a promotion.
    """
    stack: list[str] = []
    for move in entries:
        if move.state != DONE:
            continue
        if move.before and stack[-1:] != [move.before]:
            stack.append(move.before)
        if move.how == "rollback" and move.to in stack:
            del stack[len(stack) - stack[::-1].index(move.to) :]
        else:
            stack.append(move.to)
    if champion and stack[-1:] != [champion]:
        stack.append(champion)
    return stack


def removed_by_person(entries: Sequence[Move], version: str) -> Move | None:
    """The move by which a person took the championship from this version; None when it was not a person."""
    left = [move for move in entries if move.state == DONE and move.before == version]
    return left[-1] if left and left[-1].how in ("promote", "rollback") else None
