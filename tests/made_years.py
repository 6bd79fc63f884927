"""A year's months and commands as `make year` keeps them, made up: what its page is tested with."""

from __future__ import annotations

from typing import Any

from benchmarks.year.outcomes import CHALLENGER, HELD, PROMOTED, Figure, Outcome, plain

FIGURE = Figure(0.8, 0.7, 0.9, 100)


def act(kind: str, version: str = "", as_expected: bool = True, **more: Any) -> dict[str, Any]:
    judged = kind in (PROMOTED, CHALLENGER, HELD)
    outcome = Outcome(kind, "so it is", 12.3, version=version, candidate=FIGURE if judged else None)
    about = {"command": "make retrain", "expected": kind, "as_expected": as_expected, "page": ""}
    return plain(outcome) | about | more


def month(name: str, champion: str, *acts: dict[str, Any], **more: Any) -> dict[str, Any]:
    about = {
        "name": name,
        "title": "an event",
        "came": "Rows came.",
        "rows": 9,
        "champion": champion,
        "truth": 0.8,
    }
    return about | {"acts": list(acts)} | more


def year(*made: dict[str, Any], **more: Any) -> dict[str, Any]:
    about = {"when": "2026-11-26", "machine": {"cpu": "a processor", "cores": 2}, "seconds": 60.0}
    return about | {"history": "", "holdout": 50, "months": list(made)} | more
