"""Runs a recipe's steps in a directory of its own and reads the figures that accuracy tables are made of."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from components.evaluate import evaluate
from components.ingest import ingest
from components.preprocess import preprocess
from components.train import train
from retrainer.resolve import resolve

ROOT = Path(__file__).parent.parent


def run_recipe(recipe: str | None, overrides: list[str], into: Path) -> dict[str, Any]:
    """Ingest … evaluate by the Python door. Returns the report's metrics with `train_seconds`."""
    into.mkdir(parents=True, exist_ok=True)
    settled = resolve(recipe, overrides, ROOT, into)
    section = settled.section
    raw, dataset, model, report = (into / name for name in ("raw", "dataset", "model", "report"))
    ingest(raw, None, section("source"))
    preprocess(raw, dataset, section("split"), section("task"))
    began = time.perf_counter()
    train(dataset, model, *(section(name) for name in ("task", "backbone", "training", "compute")))
    seconds = time.perf_counter() - began
    evaluate(
        dataset, model, report, None, None, None,
        *(section(name) for name in ("evaluation", "gate", "registry", "compute")),
    )  # fmt: skip
    figures: dict[str, Any] = json.loads((report / "metrics.json").read_text())
    return figures | {"train_seconds": seconds}


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
