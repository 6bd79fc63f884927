"""The months' files for other pipelines: a folder a month, and months.json, which says what each is.

Mistakes in the settings of a training are written as `training`: `epochs`, `seed`, and `rate`, by which the
pipeline's own learning rate is multiplied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.trust.careless.clean import clean_months
from benchmarks.trust.careless.files import write
from benchmarks.trust.careless.kept import SEED
from benchmarks.trust.careless.mistakes import MISTAKES
from benchmarks.trust.careless.recipes import RECIPES
from benchmarks.trust.careless.rows import Month, World, this_month


def export(world: World, into: Path) -> None:
    """Writes last month, one clean month of each sort, and every month with a mistake."""
    about = []
    for number, (name, expected, month) in enumerate(_months(world)):
        folder = f"{number:02}"
        write(world.kind, month, into / folder)
        about.append(
            {"name": name, "folder": folder, "expected": expected, "training": training(world, month)}
        )
    (into / "months.json").write_text(json.dumps(about, indent=1))


def _months(world: World) -> Iterator[tuple[str, str, Month]]:
    yield "last month", "last", world.last_month()
    for name, seed, change in clean_months(world.kind):
        if name.endswith(", 0"):
            yield name, "clean", change(this_month(world, seed))
    for mistake in MISTAKES:
        if world.kind in mistake.on:
            yield mistake.name, mistake.expected, mistake.plant(this_month(world, SEED))


def training(world: World, month: Month) -> dict[str, Any]:
    given = month.settings.get("training", {})
    told: dict[str, Any] = {name: given[name] for name in ("epochs", "seed") if name in given}
    if "learning_rate" in given:
        told["rate"] = given["learning_rate"] / RECIPES[world.kind]["training"]["learning_rate"]
    return told
