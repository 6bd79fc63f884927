"""The year month after month: deliver the file, do what the month does, compare with what was expected."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._runs import machine
from benchmarks.year.holdout import Holdout
from benchmarks.year.outcomes import NOTHING_NEW, Act, Month, Outcome, plain
from benchmarks.year.project import Project
from benchmarks.year.rows import Arrivals, Row
from retrainer.formats.files import write_json, write_text
from retrainer.texts import shortened

RESULTS = "year.json"
_WIDTH = 110
Year = dict[str, Any]


def run_year(
    project: Project, months: Sequence[Month], rows: Arrivals, out: Path, holdout: Sequence[Row] = ()
) -> Year:
    """Runs them all and writes year.json, what every command printed, and its report, to `out`.

    `holdout`: rows that the product is never shown; every month's champion is measured on them.
    """
    began, truth = time.monotonic(), Holdout(holdout)
    year: Year = {"when": datetime.now(UTC).date().isoformat(), "machine": machine(), "holdout": len(holdout)}
    year["months"] = []
    for number, month in enumerate(months):
        print(f"── {month.name}: {month.title}", flush=True)
        kept = _run_month(project, month, number, rows, out)
        year["history"] = project.registry("history").printed
        now = {"champion": _champion(year["history"]), "truth": truth.champion(project)}
        year["months"].append(kept | now)
        year["seconds"] = round(time.monotonic() - began, 1)
        write_json(out / RESULTS, year)  # so that a year that is interrupted has a page too
    return year


def missed(year: Year) -> list[str]:
    """What came otherwise than expected, a line each."""
    return [
        f"{month['name']}, {act['command']}: {act['expected']}; it was {act['kind']}, {act['reason']}"
        for month in year["months"]
        for act in month["acts"]
        if not act["as_expected"]
    ]


def _run_month(project: Project, month: Month, number: int, rows: Arrivals, out: Path) -> dict[str, Any]:
    delivered = month.export(rows, number)
    project.deliver(delivered)
    if month.before:
        month.before(project)
    place = f"{number + 1:02}-{month.name.lower()}"
    acts = [_done(project, act, out, f"{place}-{at + 1}") for at, act in enumerate(month.acts)]
    about = {"name": month.name, "title": month.title, "came": month.came, "rows": len(delivered)}
    return about | {"acts": acts}


def _done(project: Project, act: Act, out: Path, name: str) -> dict[str, Any]:
    outcome = act.do(project)
    right = act.as_expected(outcome)
    write_text(out / "printed" / f"{name}.txt", outcome.printed)
    mark = "" if right else f"  (EXPECTED {act.expected})"
    line = shortened(f"{outcome.kind}, {outcome.seconds:.0f} s: {outcome.reason}", _WIDTH)
    print(f"   {line}{mark}", flush=True)
    kept = plain(outcome) | {"command": act.command, "expected": act.expected, "as_expected": right}
    return kept | {"page": _page(project, outcome, out, name)}


def _page(project: Project, outcome: Outcome, out: Path, name: str) -> str:
    """The report of the outcome beside the year's page, by its relative path; empty where it has none."""
    page = "report/report.html" if outcome.candidate else ""
    page = "findings/report.html" if outcome.kind == NOTHING_NEW else page
    kept = bool(page) and project.keep(page, out / "reports" / f"{name}.html")
    return f"reports/{name}.html" if kept else ""


def _champion(history: str) -> str:
    """The version that is champion now, as `make history` says."""
    found = re.search(r"^now: champion (\d+),", history, re.MULTILINE)
    return found[1] if found else ""
