"""What a person asks of the registry: history, promote, rollback, mirror, reap. Heavy parts come late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import ModelError, ServiceError, SettingError, UserError
from retrainer.formats.report import read_report
from retrainer.kept_reports import MOST, kept_reports
from retrainer.registry.anchor import anchor_of, anchorings
from retrainer.registry.columns import aligned
from retrainer.registry.costs import costs_of_versions, costs_of_years
from retrainer.registry.history import DONE, PREFIX, Move, moved_by_another_tool, moves
from retrainer.resolve import settle
from retrainer.services import lookup
from retrainer.services.lookup import CHALLENGER, CHAMPION
from retrainer.settings import Registry
from retrainer.texts import plural

if TYPE_CHECKING:
    from retrainer.services.kubeflow_registry import KubeflowRegistry

_WHY_CHARACTERS = 60


def registered_name(recipe: str, root: Path = Path()) -> str:
    """The registered model of a recipe; of `params.yaml` alone when `recipe` is empty."""
    return _section(recipe, root).name


def _section(recipe: str, root: Path = Path()) -> Registry:
    section = settle(recipe or None, [], root)[1]["registry"]
    assert isinstance(section, Registry)
    return section


def show_history(recipe: str) -> None:
    sections = settle(recipe or None, [], Path())[1]
    name = registered_name(recipe)
    entries, state = moves(name), lookup.state(name)
    if not entries:
        print(f"'{name}': its champion was never moved by retrainer")
    for line in _table(entries, costs_of_versions(name)):
        print(line)
    for line in costs_of_years(sections):
        print(line)
    unread = sum(key.startswith(PREFIX) for key in lookup.tags_of(name)) - len(entries)
    if unread > 0:
        print(f"tags '{PREFIX}…' of '{name}' that hold no move: {unread}; somebody edited them")
    for line in [*_anchor(name), *_reports(recipe)]:
        print(line)
    print(f"now: champion {state[CHAMPION] or 'none'}, challenger {state[CHALLENGER] or 'none'}")
    if (last := moved_by_another_tool(name, state[CHAMPION])) is not None:
        print(f"the last move that retrainer made was to version {last}: another tool moved it since")


def _table(entries: Sequence[Move], costs: Mapping[str, str]) -> list[str]:
    """`costs` are those of the versions whose cost is known; without any there is no such column."""
    if not entries:
        return []
    head = ("when (UTC)", "how", "from", "to", *(["cost"] if costs else []), "verdict", "who", "why")
    return aligned([head, *(_row(move, costs) for move in entries)])


def _row(move: Move, costs: Mapping[str, str]) -> tuple[str, ...]:
    why = move.why if len(move.why) <= _WHY_CHARACTERS else f"{move.why[: _WHY_CHARACTERS - 1]}…"
    how = move.how if move.state == DONE else f"{move.how} ({move.state})"
    when = move.when.removesuffix("+00:00").replace("T", " ")
    cost = [costs.get(move.to, "")] if costs else []
    return (when, how, move.before or "none", move.to, *cost, move.verdict, move.who, why)


def _anchor(name: str) -> list[str]:
    """Where the best champion so far is another version than the champion, or was named by a person."""
    version, entries = anchor_of(name), anchorings(name)
    last = next((one for one in reversed(entries) if one.version == version), None)
    by_hand = last is not None and last.how == "anchor"
    if version is None or (version == lookup.state(name)[CHAMPION] and not by_hand):
        return []
    when = f" ({last.who}, {last.when}: {last.why})" if last is not None and by_hand else ""
    return [f"anchor: version {version}, below which none may fall{when}"]


def _reports(recipe: str) -> list[str]:
    """The reports of earlier runs that lie here, by when and version."""
    folder = Path("runs") / settle(recipe or None, [], Path())[0]
    kept = kept_reports(folder)
    if not kept:
        return []
    rows = []
    for one in kept:
        try:
            figures = read_report(one.report)
        except UserError:  # of another format
            continue
        metric, when = figures["headline"], str(one.about["when"]).removesuffix("+00:00").replace("T", " ")
        value = f"{metric} {figures['metrics'][metric]['value']:.4g}"
        rows.append(
            (when, one.about["version"] or "none", figures["gate"]["verdict"], value, str(one.report))
        )
    head = ("run of (UTC)", "version", "verdict", "on its test rows", "report; make compare takes it as A=")
    return ["", f"reports of the last runs, {MOST} at most", *aligned([head, *rows])]


def promote(recipe: str, version: str, why: str) -> None:
    from retrainer.registry.mirror import second_registry
    from retrainer.registry.promote import promote

    section = _section(recipe)
    name, second = section.name, second_registry(section)
    print(promote(name, _number(version, "VERSION"), why), flush=True)
    if (anchor := anchor_of(name)) not in (None, lookup.state(name)[CHAMPION]):
        print(
            f"the anchor stays version {anchor}: by gate.policy not-worse no later model may fall below it;"
            f' make anchor VERSION={int(version)} WHY="…" moves it'
        )
    _show_too(second, name)


def anchor(recipe: str, version: str, why: str) -> None:
    from retrainer.registry.anchor import move_anchor

    print(move_anchor(registered_name(recipe), _number(version, "VERSION"), why))


def rollback(recipe: str, why: str) -> None:
    from retrainer.registry.mirror import second_registry
    from retrainer.registry.promote import rollback

    section = _section(recipe)
    second = second_registry(section)
    print(rollback(section.name, why), flush=True)
    _show_too(second, section.name)


def mirror(recipe: str) -> None:
    from retrainer.registry.mirror import required_registry

    section = _section(recipe)
    _show_in(required_registry(section), section.name)


def _show_too(second: KubeflowRegistry | None, name: str) -> None:
    """Tells the second registry, where there is one, after MLflow's alias has moved."""
    if second is None:
        return
    try:
        _show_in(second, name)
    except UserError as error:
        raise ServiceError(
            f"in MLflow this is done; the second registry does not show it yet: {error};"
            " `make mirror` tells it"
        ) from None


def _show_in(second: KubeflowRegistry, name: str) -> None:
    """Tells the second registry, and says what it shows now."""
    from retrainer.registry.mirror import mirror

    shown = mirror(second, name)
    if not shown.version_ids:
        print(f"MLflow has no version of '{name}' that was proven to serve; {shown.address} shows none LIVE")
        return
    changes = (
        f"{shown.made} new, {shown.changed} changes" if shown.made or shown.changed else "nothing was missing"
    )
    versions = plural(len(shown.version_ids), "version")
    print(f"{shown.address} shows {versions} of '{name}', and which are champion and challenger: {changes}")


def reap(recipe: str, hours: str) -> None:
    from retrainer.registry.reap import LEAST_HOURS, reap

    try:
        silent = float(hours)
    except ValueError:
        silent = 0.0
    if not silent >= LEAST_HOURS:
        raise SettingError(f"HOURS={hours}: needed is a number of hours, {LEAST_HOURS} or more")
    for line in reap(registered_name(recipe), silent) or ["nothing was left behind"]:
        print(line)


def _number(given: str, variable: str) -> str:
    """A version's number. Raises UserError that names the variable of make."""
    if not (given.isascii() and given.isdigit()):
        raise ModelError(
            f"{variable}={given}: needed is the number of a version, as `make history` shows them"
        )
    return str(int(given))
