"""What has to be paid before any work: a step until its first work, and a pipeline with nothing to do.

    python -m benchmarks.fixed

Works in a copy of the project, on the recipe `digits-mlp` with one epoch. Prints one table and writes
`benchmarks/results/fixed.json`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks._runs import ROOT, copy_project, machine

RESULTS = ROOT / "benchmarks" / "results" / "fixed.json"
RECIPE = "digits-mlp"
TIMES = 5
_OURS = ("retrainer", "components", "pipelines", "__main__")
# A step's first work, and where its files are. The step is the command line's, up to that call.
_STEPS = {
    "ingest": ("retrainer.data.ingest:ingest", "--raw {out}"),
    "preprocess": (
        "retrainer.data.preprocess:preprocess",
        "--raw {runs}/raw --dataset {out} --findings {out}-findings",
    ),
    "train": ("retrainer.training.loop:fit", "--dataset {runs}/dataset --model {out}"),
}
_UNTIL = """
import importlib, json, os, sys, time
from components.command import main
def reached(*_, **__):
    print(json.dumps([time.time() - float(os.environ["BEGAN"]), list(sys.modules)]), flush=True)
    os._exit(0)
module, _, name = sys.argv[1].partition(":")
setattr(importlib.import_module(module), name, reached)
main(sys.argv[2:])
"""
# The same modules, in the same order, and nothing else.
_IMPORTS_ALONE = """
import contextlib, importlib, json, os, sys, time
for name in json.load(sys.stdin):
    with contextlib.suppress(Exception):
        importlib.import_module(name)
print(time.time() - float(os.environ["BEGAN"]), flush=True)
os._exit(0)
"""


class First(NamedTuple):
    """Seconds from the start of the process, those of others' imports alone, and whether torch is one."""

    seconds: float
    imports: float
    torch: bool


def first_work(project: Path, step: str) -> First:
    where, ports = _STEPS[step]
    with tempfile.TemporaryDirectory(dir=project) as out:
        words = ports.format(out=f"{out}/made", runs=f"runs/{RECIPE}").split()
        settings = ["--settings", f".run/{RECIPE}/settings.json"]
        told = _python(project, _UNTIL, where, step, *settings, *words)
    seconds, modules = json.loads(told.splitlines()[-1])
    theirs = [name for name in modules if name.partition(".")[0] not in _OURS]
    imports = float(_python(project, _IMPORTS_ALONE, given=json.dumps(theirs)))
    return First(seconds, imports, "torch" in modules)


def _python(project: Path, code: str, *words: str, given: str = "") -> str:
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(
        command, cwd=project, env=_environment(), input=given, capture_output=True, text=True, check=True
    ).stdout


def pipeline(project: Path) -> float:
    """Seconds of `make pipeline`'s command; whatever has changed is made."""
    began = time.perf_counter()
    words = ["pipeline", "--recipe", RECIPE, "--set", "training.epochs=1"]
    command = [sys.executable, "-m", "pipelines", *words]
    subprocess.run(command, cwd=project, env=_environment(), check=True, capture_output=True)
    return time.perf_counter() - began


def dvc_alone(project: Path) -> float:
    """Seconds of a Python that imports DVC and ends: the measure of what doing nothing may cost."""
    began = time.perf_counter()
    _python(project, "import dvc.repo")
    return time.perf_counter() - began


def _environment() -> dict[str, str]:
    """As in a user's shell: without an MLflow server, and Python keeps what it compiled of each module."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return kept | {"BEGAN": repr(time.time()), "PYTHONDONTWRITEBYTECODE": ""}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="fixed-") as name:
        project = copy_project(Path(name))
        pipeline(project)
        asked = pipeline(project)  # DVC finds nothing to do, which is remembered
        nothing = [(pipeline(project), dvc_alone(project)) for _ in range(TIMES)]
        steps = {step: [first_work(project, step) for _ in range(TIMES)] for step in _STEPS}
    unchanged, alone = (list(part) for part in zip(*nothing, strict=True))
    rows = {
        "make pipeline, unchanged for the first time": {"seconds": [asked]},
        "make pipeline, unchanged": {"seconds": unchanged},
        "import dvc.repo": {"seconds": alone},
    }
    print("| | seconds (lowest to highest) | of it others' imports | torch imported |\n|---|---|---|---|")
    for row, times in rows.items():
        print(f"| {row} | {_spread(times['seconds'])} | | |")
    ratio = statistics.median(unchanged) / statistics.median(alone)
    print(f"| an unchanged pipeline takes {ratio:.1f} times as long as `import dvc.repo` (at most 2) | | | |")
    for step, found in steps.items():
        seconds, imports, torch = (list(part) for part in zip(*found, strict=True))
        rows[step] = {"seconds": seconds, "imports": imports, "torch": torch}
        print(f"| {step}, to its first work | {_spread(seconds)} | {_spread(imports)} | {torch[0]} |")
    when = datetime.now(UTC).date().isoformat()
    RESULTS.write_text(json.dumps({"when": when, "machine": machine(), "rows": rows}, indent=1) + "\n")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
