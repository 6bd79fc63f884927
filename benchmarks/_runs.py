"""Runs a recipe's steps, or the whole project, in a directory of its own, and reads the figures of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from components.evaluate import evaluate
from components.ingest import ingest
from components.preprocess import preprocess
from components.train import train
from retrainer.contract import Step, contract_of
from retrainer.resolve import Resolved, resolve

ROOT = Path(__file__).parent.parent


def run_recipe(recipe: str | None, overrides: list[str], into: Path) -> dict[str, Any]:
    """Ingest … evaluate by the Python door. Returns the report's metrics with `train_seconds`."""
    into.mkdir(parents=True, exist_ok=True)
    settled = resolve(recipe, overrides, ROOT, into)
    seconds = {step.__name__: run_step(step, settled, into) for step in (ingest, preprocess, train, evaluate)}
    figures: dict[str, Any] = json.loads((into / "report" / "metrics.json").read_text())
    return figures | {"train_seconds": seconds["train"]}


def run_step(step: Step, settled: Resolved, into: Path) -> float:
    """The step on its inputs in `into`, without views; returns its seconds."""
    contract = contract_of(step)
    ports = {name: None if port.direction == "view" else into / name for name, port in contract.ports.items()}
    sections = {name: settled.section(name) for name in contract.sections}
    began = time.perf_counter()
    step(**ports, **sections)
    return time.perf_counter() - began


def copy_project(into: Path) -> Path:
    """The files that git knows, in a repository of their own; what is done there touches nothing here."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=into, check=True, capture_output=True)
    return into


def users_environment() -> dict[str, str]:
    """This shell's without what leads a run elsewhere. Python keeps what it compiled, as for a user."""
    led = ("MLFLOW_", "RETRAINER_", "DVC_", "KFP_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(led)}
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONDONTWRITEBYTECODE": ""}


def machine() -> dict[str, Any]:
    """What a figure depends on: processor, cores, versions."""
    import platform
    from importlib.metadata import version

    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    packages = ("torch", "torchvision", "transformers", "tokenizers", "scikit-learn", "mlflow", "dvc")
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }
