"""What of the last run no longer holds, because the registry changed: DVC cannot see the registry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrainer.registry.anchor import anchor_is
from retrainer.registry.standing import decision_on
from retrainer.services import lookup


def forget_what_the_registry_lost(folder: Path, name: str, say: Callable[[str], None]) -> None:
    """Removes a registration that the registry no longer holds, so that DVC runs register again.

    `folder` holds the recipe's outputs, `name` is the registered model. An alias that a person has moved
    since is left as it is: an unchanged pipeline must not take back what they did. Where they took it from
    this very model, or gave it to it, the model is judged again, which then says so and moves nothing.
    """
    made = read_if_there(folder / "registration" / "registration.json")
    if made is not None:
        version = lookup.by_version(made["name"], str(made["version"]))
        if version is not None and version.usable and version.model_sha256 == made["model_sha256"]:
            _forget_what_was_decided_since(folder, made, say)
            return
        say(f"── the registry no longer holds {made['name']} version {made['version']}: registering again")
        shutil.rmtree(folder / "registration")
    forget_stale_verdict(folder, name)


def _forget_what_was_decided_since(folder: Path, made: dict[str, Any], say: Callable[[str], None]) -> None:
    """Removes a report that does not know what somebody decided about its model since."""
    decision = decision_on(made["name"], made["model_sha256"])
    gate = (read_if_there(folder / "report" / "metrics.json") or {}).get("gate")
    if decision is not None and gate is not None and gate.get("decision") != asdict(decision):
        say(f"── since this recipe's last run: {decision.why}")
        shutil.rmtree(folder / "report")


def forget_stale_verdict(folder: Path, name: str) -> bool:
    """Removes a report that judged by another champion or anchor than today's, or that gives the alias to a
    model from which somebody took it; returns whether it did."""
    report = read_if_there(folder / "report" / "metrics.json")
    if report is None:
        return False
    gate = report["gate"]
    same = lookup.champion_is(name, gate["champion"]) and anchor_is(name, gate.get("anchor"))
    if same and not _was_taken_since(name, report):
        return False
    shutil.rmtree(folder / "report")
    return True


def _was_taken_since(name: str, report: dict[str, Any]) -> bool:
    decision = decision_on(name, report["model_sha256"])
    return decision is not None and decision.taken and report["gate"]["verdict"] == lookup.CHAMPION


def read_if_there(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
