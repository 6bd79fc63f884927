"""A year of monthly retrains of Banking77 with planted events, and a page that shows it.

    make year [DATA=folder]        # or: python -m benchmarks.year [--data FOLDER] [--out FOLDER] [--page]

Everything happens in a copy of the project in a temporary folder, with a registry of its own. Writes
build/year/year.html, the months' reports beside it, and year.json; ends with status 1 when something was
decided otherwise than expected. `--page` writes the page anew from year.json and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks._runs import ROOT
from benchmarks.year.events import RECIPE, months
from benchmarks.year.page import as_markdown, render
from benchmarks.year.project import Project
from benchmarks.year.rows import arrivals, read_banking77
from benchmarks.year.run import RESULTS, Year, missed, run_year
from retrainer.errors import UserError
from retrainer.formats.files import write_text

BESIDE = ROOT.parent / "shared" / "data" / "banking77"
OUT = ROOT / "build" / "year"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make year")
    parser.add_argument("--data", type=Path, default=BESIDE, help="folder of Banking77's two files")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--page", action="store_true", help="write the page anew from year.json")
    arguments = parser.parse_args(argv)
    try:
        year = _kept(arguments.out) if arguments.page else _run(arguments.data, arguments.out)
    except UserError as error:
        print(f"year: {error}", file=sys.stderr)
        return 2
    page = arguments.out / "year.html"
    write_text(page, render(year))
    write_text(arguments.out / "year.md", as_markdown(year))
    wrong = missed(year)
    for line in wrong:
        print(f"not as expected: {line}", file=sys.stderr)
    print(f"{year['seconds'] / 60:.1f} minutes; the year as a page: {page}")
    return 1 if wrong else 0


def _kept(out: Path) -> Year:
    if not (out / RESULTS).is_file():
        raise UserError(f"{out / RESULTS} is not there: run `make year` first")
    year: Year = json.loads((out / RESULTS).read_text(encoding="utf-8"))
    return year


def _run(data: Path, out: Path) -> Year:
    print("twelve months, about a quarter of an hour on two cores", flush=True)
    rows = arrivals(read_banking77(data, "train.csv"))
    holdout = read_banking77(data, "test.csv")[::3]  # as many as tell the months apart, in seconds
    with tempfile.TemporaryDirectory(prefix="year-") as folder:
        return run_year(Project(Path(folder) / "project", RECIPE), months(), rows, out, holdout)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
