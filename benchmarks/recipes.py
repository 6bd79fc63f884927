"""Every use that the README names, as a user runs it: `make pipeline` in a copy of the project.

    make bench-recipes [ONLY="digits-mlp bccd"] [SEEDS="0 1 2"]
    # or: python -m benchmarks.recipes [--data FOLDER] [--seeds SEED …] [RECIPE …]

A recipe whose data are not on this machine is left out, and one that fails ends this with status 1; the table
says why. Writes benchmarks/results/recipes.json after each run; recipes that ran earlier keep their rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._runs import ROOT, copy_project, machine, users_environment
from retrainer.errors import UserError
from retrainer.formats.files import write_json
from retrainer.texts import shortened

RESULTS = Path(__file__).parent / "results" / "recipes.json"
DATA = ROOT.parent / "shared" / "data"
Row = dict[str, Any]


@dataclass(frozen=True)
class Use:
    """A recipe, what it is for, and on which data.

    settings  of SET; {data} is the folder of datasets
    needs     a file or folder below it, "" for a recipe that brings its own rows
    first     the recipe that must have registered a model before
    """

    recipe: str
    use: str
    rows: str
    settings: tuple[str, ...] = ()
    needs: str = ""
    first: str = ""


_FSDD = ("source.path={data}/fsdd.tar.xz", "source.test_groups=[theo]")
_MULTI30K = ("source.path={data}/multi30k", "source.text=de", "source.target_text=en")
_SPEAKERS_OF = ("source.path={data}/speakers",)  # docs/tasks/verification.md says how to make it
_BCCD = ("source.path={data}/bccd.tar.xz",)

USES = (
    Use("sentiment-minilm", "texts into classes", "word senses, good or bad"),
    Use("digits-mlp", "images into classes", "MNIST digits"),
    Use("digits-resnet18", "images into classes", "MNIST digits, transferred", first="digits-backbone"),
    Use("api-docs", "words into tags", "documentation of web services"),
    Use("word-polarity", "texts into numbers", "word senses, from -1 to 1"),
    Use("digits-detection", "images into boxes", "synthetic scenes of MNIST digits"),
    Use("bccd", "images into boxes", "BCCD, blood cells", _BCCD, "bccd.tar.xz"),
    Use("digits-segmentation", "pixels into classes", "synthetic scenes of MNIST digits"),
    Use("translation", "texts into texts", "Multi30k, German to English", _MULTI30K, "multi30k"),
    Use("smollm2-operations", "prompts into answers", "names of web services' operations"),
    Use("spoken-digits", "speech into texts", "FSDD, a speaker never heard", _FSDD, "fsdd.tar.xz"),
    Use("whisper-digits", "speech into texts", "the same", _FSDD, "fsdd.tar.xz"),
    Use("spoken-digit-classes", "sounds into classes", "the same", _FSDD, "fsdd.tar.xz"),
    Use("whisper-keywords", "sounds into classes", "the same", _FSDD, "fsdd.tar.xz"),
    Use("speakers", "who speaks", "LibriSpeech, speakers never heard", _SPEAKERS_OF, "speakers"),
)


def run(use: Use, seed: int, data: Path, project: Path) -> Row:
    """One `make pipeline` to a registered version. Raises UserError with its last line where it fails."""
    settings = [one.format(data=data) for one in use.settings]
    if use.first:
        _pipeline(project, use.first, [f"training.seed={seed}"])
    began = time.monotonic()
    _pipeline(project, use.recipe, [*settings, f"training.seed={seed}"])
    seconds = round(time.monotonic() - began, 1)
    report = json.loads((project / "runs" / use.recipe / "report" / "metrics.json").read_text())
    return {"seed": seed, "seconds": seconds, **_figures(report)}


def _figures(report: dict[str, Any]) -> Row:
    """The headline with its interval, and that of the strongest baseline."""
    headline = report["headline"]
    about = report["about"][headline]
    best = max if about["higher_is_better"] else min
    values = {one["title"]: one["metrics"][headline]["value"] for one in report["baselines"].values()}
    name = best(values, key=lambda one: values[one]) if values else ""
    return {
        "metric": about["title"],
        **{key: report["metrics"][headline][key] for key in ("value", "low", "high")},
        "train_rows": report["data"]["rows"]["train"],
        "test_rows": report["rows"],
        "baseline": name,
        "baseline_value": values.get(name),
        "start": report["start"],
    }


def _pipeline(project: Path, recipe: str, settings: Sequence[str]) -> None:
    words = [sys.executable, "-m", "pipelines", "pipeline", "--recipe", recipe]
    words += [word for one in settings for word in ("--set", one)]
    done = subprocess.run(words, cwd=project, env=users_environment(), capture_output=True, text=True)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        found = [line for line in said if line.split(": ")[0] in (recipe, *_STEPS)]
        raise UserError(shortened((found or said or ["it said nothing"])[-1], 200))


_STEPS = ("ingest", "preprocess", "train", "evaluate", "register", "pipeline", "resolve")


def measured(use: Use, seeds: Sequence[int], data: Path) -> Row:
    """Its rows of all seeds, each in a project of its own; or `left_out` or `failed`, why there are none."""
    about = {"use": use.use, "rows": use.rows, "when": datetime.now(UTC).date().isoformat()}
    if use.needs and not (data / use.needs).exists():
        return about | {"left_out": f"{use.needs} is not on this machine"}
    runs: list[Row] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="recipe-") as folder:
            project = copy_project(Path(folder) / "project")
            shutil.copy2(ROOT / "benchmarks" / "bccd.yaml", project / "recipes")
            try:
                runs.append(run(use, seed, data, project))
            except UserError as error:
                # Where things lie on this machine is no part of a result.
                said = str(error).replace(f"{project.parent}/", "").replace(str(data), "data")
                return about | {"failed": said}
        print(f"{use.recipe}, seed {seed}: {_said(runs[-1])}", flush=True)
    return about | {"machine": machine(), "runs": runs}


def _said(run: Row) -> str:
    interval = f"{run['low']:.3f} to {run['high']:.3f}"
    return f"{run['metric']} {run['value']:.3f} ({interval}), {run['seconds']:.0f} s"


def table(results: dict[str, Row]) -> str:
    """Markdown: a line a recipe, in the order of USES."""
    lines = [
        "| use | recipe | data | rows to train, to test | result (95%) | strongest baseline | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for use in USES:
        if use.recipe in results:
            lines.append(_line(use, results[use.recipe]))
    return "\n".join(lines)


def _line(use: Use, row: Row) -> str:
    start = f"| {use.use} | `{use.recipe}` | {use.rows} |"
    for why, words in (("left_out", "left out"), ("failed", "failed")):
        if why in row:
            return f"{start} | {words}: {row[why]} | | |"
    runs = row["runs"]
    one, values = runs[0], [run["value"] for run in runs]
    result = f"{one['metric']} {one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
    if len(runs) > 1:
        spread = f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
        result = f"{one['metric']} {spread} ({len(runs)} seeds)"
    baseline = ""
    if one["baseline"]:
        mean = statistics.mean(run["baseline_value"] for run in runs)
        baseline = f"{mean:.3f} {one['baseline']}"
    seconds = " ".join(f"{run['seconds']:.0f}" for run in runs)
    return f"{start} {one['train_rows']:,}, {one['test_rows']:,} | {result} | {baseline} | {seconds} |"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench-recipes")
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="all where none is named")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of datasets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked = parser.parse_args(words)
    known = [use.recipe for use in USES]
    if unknown := set(asked.recipes) - set(known):
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(known)}")
    results: dict[str, Row] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for use in USES:
        if not asked.recipes or use.recipe in asked.recipes:
            results[use.recipe] = measured(use, asked.seeds, asked.data.resolve())
            write_json(RESULTS, results)
    print(table(results))
    return 1 if any("failed" in row for row in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
