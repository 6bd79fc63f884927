"""More than 40 careless months on three real datasets, and clean ones beside them.

    nice python -m benchmarks.trust.careless [texts] [images] [sounds] [--only PATTERN] [--missing]
    python -m benchmarks.trust.careless texts --exports DIR     # the same months' files, for peers/
    python -m benchmarks.trust.careless --table

Results: benchmarks/results/trust_careless.json, month by month; what is not run stays.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.trust.careless.clean import RIGHT, clean_months
from benchmarks.trust.careless.exports import export
from benchmarks.trust.careless.judged import alarm, as_expected, is_named
from benchmarks.trust.careless.kept import PEERS, SEED, keep, kept, months
from benchmarks.trust.careless.mistakes import EVERY, MISTAKES
from benchmarks.trust.careless.ours import Company, Outcome
from benchmarks.trust.careless.rows import Month, this_month, world
from benchmarks.trust.careless.tables import tables

# (mistakes or clean, name of a month) → whether it is to be run
Chosen = Callable[[str, str], bool]


def run(company: Company, chosen: Chosen) -> None:
    """Runs a dataset's months, and keeps each when it is through."""
    kind = company.world.kind
    rows = {"last": len(company.world.last), "test": len(company.world.test)}
    keep(kind, {"rows": rows, "champion": company.champion_accuracy, "last_month": company.first.plain()})
    for number, mistake in enumerate(MISTAKES):
        if kind in mistake.on and chosen("mistakes", mistake.name):
            outcome = _month(company, f"m{number:02}", mistake.plant(this_month(company.world, SEED)))
            named = is_named(mistake, outcome, company.first)
            met = as_expected(mistake, outcome, named)
            about = {"expected": mistake.expected, "named": named, "met": met, **outcome.plain()}
            keep(kind, {"mistakes": {mistake.name: about}})
            _show(mistake.name, mistake.expected, outcome, "named" if named else "", "" if met else "MISS")
    for name, seed, change in clean_months(kind):
        if chosen("clean", name):
            outcome = _month(company, f"c{seed}", change(this_month(company.world, seed)))
            alarms = alarm(outcome, company.first, RIGHT.get(kind, {}))
            keep(kind, {"clean": {name: {"alarms": alarms, **outcome.plain()}}})
            _show(name, "clean", outcome, f"ALARM {alarms}" if alarms else "")


def _month(company: Company, folder: str, month: Month) -> Outcome:
    outcome = company.month(folder, month)
    company.forget(folder)
    return outcome


def _show(name: str, expected: str, outcome: Outcome, *words: str) -> None:
    parts = (f"{name} [{expected}]: {outcome.decision}", outcome.step, *words, f"{outcome.seconds} s")
    print(" ".join(part for part in parts if part), flush=True)
    print(f"    {(outcome.reason or outcome.shown)[:700]}", flush=True)


def _chosen(kind: str, pattern: str, missing: bool) -> Chosen:
    def one(part: str, name: str) -> bool:
        return bool(re.search(pattern, name)) and not (missing and name in months(kind, part))

    return one


def main() -> None:
    reader = argparse.ArgumentParser(prog="python -m benchmarks.trust.careless")
    reader.add_argument("kinds", nargs="*", help=", ".join(EVERY))
    reader.add_argument("--only", default="", metavar="PATTERN", help="months whose name fits")
    reader.add_argument("--missing", action="store_true", help="months that no result is kept of")
    reader.add_argument("--exports", type=Path, metavar="DIR", help="write the months' files and run none")
    reader.add_argument("--table", action="store_true", help="print the tables of what is kept")
    given = reader.parse_args()
    if given.table:
        print(tables(kept(), kept(PEERS)))
        return
    exports = given.exports.resolve() if given.exports else None
    for kind in given.kinds or EVERY:
        with tempfile.TemporaryDirectory() as home:
            company = Company(world(kind), Path(home).resolve() / "company")
            print(f"{kind}: champion {company.champion_accuracy:.3f}, {company.first.seconds} s", flush=True)
            print(f"    {company.first.shown}", flush=True)
            if exports is not None:
                export(company.world, exports / kind)
            else:
                run(company, _chosen(kind, given.only, given.missing))


if __name__ == "__main__":
    main()
