"""A recipe beside its baselines and one of torchvision's reference loops, over the same network and rows.

`benchmarks.detection` and `benchmarks.segmentation` say which recipe, and how that loop trains.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from benchmarks._runs import ROOT, machine, run_step
from components.evaluate import evaluate
from components.ingest import ingest
from components.preprocess import preprocess
from components.train import train
from retrainer.formats.dataset import Dataset
from retrainer.predict import Predictor
from retrainer.resolve import Resolved, resolve
from retrainer.services.weights import fetch
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.learner import Learner, Splits
from retrainer.training.strategies import plan
from retrainer.training.train import encode, prepare

Row = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What is compared.

    recipe    a parameter file
    settings  of this machine and data, as "compute.threads=1"
    metrics   name → its value from predictions and test rows; the first is the table's own
    loop      trains the learner's network on its encoded rows, whose layers the recipe's phase sets
    """

    recipe: Path
    settings: Sequence[str]
    metrics: Mapping[str, Callable[[pa.Table, pa.Table], float]]
    loop: Callable[[Learner, Any, Any], None]


def run(study: Study, seeds: Sequence[int], results: Path) -> None:
    """Prints the table and writes `results`, after each seed. Where data lie stays out of it."""
    told = [word for word in study.settings if not word.startswith("source.path=")]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        for seed in seeds:
            into = Path(folder) / str(seed)
            resolved = _settled(study, seed, into)
            rows += [*_ours(study, seed, resolved, into), _reference(study, seed, resolved, into)]
            made = {"machine": machine(), "settings": told, "rows": rows}
            results.write_text(json.dumps(made, indent=1) + "\n")
            print(table(rows, list(study.metrics)), flush=True)


def _settled(study: Study, seed: int, into: Path) -> Resolved:
    """The recipe's settings, resolved in `into`."""
    (into / "recipes").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "params.yaml", into)
    shutil.copy(study.recipe, into / "recipes")
    return resolve(study.recipe.stem, [f"training.seed={seed}", *study.settings], into, into)


def _ours(study: Study, seed: int, settings: Resolved, into: Path) -> list[Row]:
    """The whole pipeline, and its baselines."""
    seconds = {
        step.__name__: run_step(step, settings, into) for step in (ingest, preprocess, train, evaluate)
    }
    figures = json.loads((into / "report" / "metrics.json").read_text())
    headline = figures["metrics"][next(iter(study.metrics))]
    first = _row(study, "retrainer", seed, figures["metrics"], seconds["train"], sum(seconds.values()))
    first |= {"per_class": figures["details"]["per_class"], "interval": [headline["low"], headline["high"]]}
    others = figures["baselines"].items()
    return [first, *(_row(study, name, seed, one["metrics"], 0.0, 0.0) for name, one in others)]


def _reference(study: Study, seed: int, resolved: Resolved, into: Path) -> Row:
    """torchvision's loop over the network that the recipe builds, on the dataset that its run has made."""
    sections = {name: resolved.section(name) for name in Settings._fields}
    settings = Settings.parse({name: section.plain() for name, section in sections.items()})
    torch.set_num_threads(settings.compute.threads)
    learner, table = prepare(Inputs(into / "dataset", settings, fetch(settings.backbone)))
    task, network = learner.task, learner.network
    rows, targets = encode(table, task, network)
    network.to(memory_format=torch.channels_last)
    # The same layers stay as they came.
    phase = next(plan(learner, Splits((rows, targets)), torch.device("cpu")).phases(1))
    torch.manual_seed(seed)
    began = time.perf_counter()
    study.loop(learner, rows, phase)
    seconds = time.perf_counter() - began
    test = Dataset(into / "dataset").split("test")
    found = Predictor(network.eval(), task, "cpu", "").predict(test)
    values = {name: {"value": float(value(found, test))} for name, value in study.metrics.items()}
    return _row(study, "torchvision's loop", seed, values, seconds, 0.0)


def _row(study: Study, name: str, seed: int, metrics: Mapping[str, Any], train: float, seconds: float) -> Row:
    values = {metric: metrics[metric]["value"] for metric in study.metrics}
    spent = {"train_seconds": round(train, 1), "seconds": round(seconds, 1)}
    return {"name": name, "seed": seed, **values, **spent}


def table(rows: list[Row], metrics: Sequence[str]) -> str:
    """A line a contender: the means over its seeds, the first metric's with its standard deviation."""
    first, *further = metrics
    heads = " ".join(f"{name:>20}" for name in further)
    lines = [f"{'':34} seeds {first:>20}    ± sd {heads}  train s  whole s"]
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        values = [row[first] for row in mine]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        means = " ".join(f"{statistics.mean(row[metric] for row in mine):20.4f}" for metric in further)
        train, seconds = (statistics.median(row[key] for row in mine) for key in ("train_seconds", "seconds"))
        lines.append(
            f"{name:34} {len(mine):5} {statistics.mean(values):20.4f} {spread:7.4f} {means}"
            f" {train:8.1f} {seconds:8.1f}"
        )
    return "\n".join(lines)
