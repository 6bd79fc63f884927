"""More than 40 careless months on three real datasets, and clean ones beside them.

    nice python -m benchmarks.trust.careless [texts] [images] [sounds] [--only PATTERN]
    python -m benchmarks.trust.careless --table

Results: benchmarks/results/trust_careless.json, month by month; what is not run stays.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._runs import ROOT, machine
from benchmarks.trust.careless.clean import CLEAN
from benchmarks.trust.careless.mistakes import EVERY, MISTAKES, Mistake
from benchmarks.trust.careless.ours import Company, Outcome
from benchmarks.trust.careless.rows import IMAGE, SOUND, TEXT, Case, Month, world
from benchmarks.trust.careless.tables import tables

RESULTS = ROOT / "benchmarks" / "results" / "trust_careless.json"
SEED = 2026
# Clean months of each kind: a month of sounds takes longest.
CLEAN_SEEDS = {TEXT: 2, IMAGE: 2, SOUND: 1}


@dataclass
class Run:
    """The months of one dataset, those whose name fits `only`."""

    company: Company
    only: re.Pattern[str]

    def month(self, number: str, month: Month) -> Outcome:
        outcome = self.company.month(number, month)
        self.company.forget(number)
        return outcome

    def mistakes(self) -> None:
        for number, mistake in enumerate(MISTAKES):
            if self.company.world.kind not in mistake.on or not self.only.search(mistake.name):
                continue
            draw, rows = np.random.default_rng(SEED), self.company.world
            month = mistake.plant(Case(rows.this_month(draw), rows, draw))
            outcome = self.month(f"m{number:02}", month)
            named = is_named(mistake, outcome, self.company.first)
            met = as_expected(mistake, outcome, named)
            about = {"expected": mistake.expected, "named": named, "met": met, **outcome.plain()}
            keep(self.company.world.kind, {"mistakes": {mistake.name: about}})
            _show(mistake.name, mistake.expected, outcome, "named" if named else "", "" if met else "MISS")

    def clean(self) -> None:
        for number in range(CLEAN_SEEDS[self.company.world.kind] * len(CLEAN)):
            seed, kind = divmod(number, len(CLEAN))
            name, change = list(CLEAN.items())[kind]
            if not self.only.search(name):
                continue
            draw, rows = np.random.default_rng(1000 + number), self.company.world
            month = change(Case(rows.this_month(draw), rows, draw))
            outcome = self.month(f"c{kind}{seed}", month)
            alarms = alarm(outcome, self.company.first)
            about = {"alarms": alarms, **outcome.plain()}
            keep(self.company.world.kind, {"clean": {f"{name}, {seed}": about}})
            _show(f"{name}, {seed}", "clean", outcome, "", f"ALARM {alarms}" if alarms else "")


def is_named(mistake: Mistake, outcome: Outcome, before: Outcome) -> bool:
    """Whether why it was stopped or held fits the mistake's pattern; or what a person reads does, and did not
    last month."""
    if not mistake.says:
        return False
    if re.search(mistake.says, outcome.reason.lower()):
        return True
    told = re.search(mistake.says, outcome.shown.lower())
    return bool(told) and not re.search(mistake.says, before.shown.lower())


def as_expected(mistake: Mistake, outcome: Outcome, named: bool) -> bool:
    if mistake.expected == "harmless":
        worse = outcome.truth is not None and outcome.truth[0] < outcome.truth[1]
        return outcome.decision != "promoted" or not worse
    strong = {"stop": ("stopped",), "hold": ("stopped", "held")}.get(mistake.expected)
    return named and (strong is None or outcome.decision in strong)


def alarm(outcome: Outcome, before: Outcome) -> list[str]:
    """What a clean month set off: a stop, a hold, or a check that found nothing last month."""
    if outcome.decision in ("stopped", "held"):
        return [outcome.decision]
    return sorted(outcome.found.keys() - before.found.keys())


def _show(name: str, expected: str, outcome: Outcome, *words: str) -> None:
    parts = (f"{name} [{expected}]: {outcome.decision}", outcome.step, *words, f"{outcome.seconds} s")
    print(
        " ".join(part for part in parts if part),
        f"\n    {(outcome.reason or outcome.shown)[:700]}",
        flush=True,
    )


def ours(kind: str, only: str) -> None:
    """Runs the months of a dataset, and keeps each when it is through."""
    with tempfile.TemporaryDirectory() as home:
        company = Company(world(kind), Path(home).resolve() / "company")
        print(f"{kind}: champion {company.champion_accuracy:.3f}, {company.first.seconds} s", flush=True)
        print(f"    {company.first.shown}", flush=True)
        rows = {"last": len(company.world.last), "test": len(company.world.test)}
        about = {"rows": rows, "champion": company.champion_accuracy, "last_month": company.first.plain()}
        keep(kind, about)
        run = Run(company, re.compile(only))
        run.mistakes()
        run.clean()


def keep(kind: str, told: dict[str, Any]) -> None:
    """Adds to what is kept of a dataset: months to its months, all else as it is."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    kept |= {"machine": machine(), "seed": SEED, "date": datetime.now(UTC).date().isoformat()}
    part = kept.setdefault("ours", {}).setdefault(kind, {})
    for name, value in told.items():
        months = name in ("mistakes", "clean")
        part[name] = {**part.get(name, {}), **value} if months else value
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    reader = argparse.ArgumentParser(prog="python -m benchmarks.trust.careless")
    reader.add_argument("kinds", nargs="*", help=", ".join(EVERY))
    reader.add_argument("--only", default="", help="months whose name fits this pattern")
    reader.add_argument("--table", action="store_true", help="print the tables of what is kept")
    given = reader.parse_args()
    if given.table:
        print(tables(json.loads(RESULTS.read_text())))
        return
    for kind in given.kinds or EVERY:
        ours(kind, given.only)


if __name__ == "__main__":
    main()
