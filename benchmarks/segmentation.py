"""The recipe digits-segmentation, or another, beside its baselines and torchvision's reference loop, on the
same rows.

    python -m benchmarks.segmentation [benchmarks/coasts.yaml] [seeds…] [section.key=value…]

The reference trains the very same network on the same rows, changed as the recipe says, for as many epochs,
by the optimiser and schedule of torchvision's references/segmentation/train.py: SGD with momentum 0.9, weight
decay 1e-4, 0.01 for 8 images a step, times (1 - step / steps) ** 0.9, the loss a mean over all pixels of a
batch, no clipping. Prints a table and writes `benchmarks/results/RECIPE.json`, after each run.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._runs import ROOT, machine, run_step
from components.evaluate import evaluate
from components.ingest import ingest
from components.preprocess import preprocess
from components.train import train
from retrainer.formats.dataset import Dataset
from retrainer.metrics import mean_iou, pixel_accuracy
from retrainer.predict import Predictor
from retrainer.resolve import Resolved, resolve
from retrainer.services.weights import fetch
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.learner import Splits
from retrainer.training.strategies import plan
from retrainer.training.train import encode, prepare

RESULTS = ROOT / "benchmarks" / "results"
RECIPE = ROOT / "recipes" / "digits-segmentation.yaml"
FURTHER: list[str] = []  # settings of this machine, as "compute.threads=1"
_RATE_OF_AN_IMAGE = 0.01 / 8
_METRICS = ("mean_iou", "pixel_accuracy")

Row = dict[str, Any]


def settled(recipe: Path, seed: int, into: Path) -> Resolved:
    """The recipe's settings, resolved in `into`."""
    (into / "recipes").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "params.yaml", into)
    shutil.copy(recipe, into / "recipes")
    return resolve(recipe.stem, [f"training.seed={seed}", *FURTHER], into, into)


def ours(recipe: Path, seed: int, into: Path) -> list[Row]:
    """The whole pipeline, and its two baselines."""
    settings = settled(recipe, seed, into)
    steps = (ingest, preprocess, train, evaluate)
    seconds = {step.__name__: run_step(step, settings, into) for step in steps}
    figures = json.loads((into / "report" / "metrics.json").read_text())
    rows = [_row("retrainer", seed, figures["metrics"], seconds["train"], sum(seconds.values()))]
    rows[0]["per_class"] = figures["details"]["per_class"]
    rows[0]["interval"] = [figures["metrics"]["mean_iou"][end] for end in ("low", "high")]
    return rows + [_row(name, seed, one["metrics"], 0.0, 0.0) for name, one in figures["baselines"].items()]


def _row(name: str, seed: int, metrics: dict[str, Any], train: float, seconds: float) -> Row:
    values = {metric: metrics[metric]["value"] for metric in _METRICS}
    return {
        "name": name,
        "seed": seed,
        **values,
        "train_seconds": round(train, 1),
        "seconds": round(seconds, 1),
    }


def reference(recipe: Path, seed: int, into: Path) -> Row:
    """torchvision's loop over the network that the recipe builds, on the dataset that its run has made."""
    resolved = settled(recipe, seed, into)
    sections = {name: resolved.section(name) for name in Settings._fields}
    settings = Settings.parse({name: section.plain() for name, section in sections.items()})
    torch.set_num_threads(settings.compute.threads)
    learner, table = prepare(Inputs(into / "dataset", settings, fetch(settings.backbone)))
    task, network = learner.task, learner.network
    rows, targets = encode(table, task, network)
    network.to(memory_format=torch.channels_last)
    phase = next(plan(learner, Splits((rows, targets)), torch.device("cpu")).phases(1))
    began = time.perf_counter()
    _train(network, task, rows, phase, settings.training)
    seconds = time.perf_counter() - began
    test = Dataset(into / "dataset").split("test")
    found = Predictor(network.eval(), task, "cpu", "").predict(test)
    values = {
        name: {"value": float(metric.value(metric.statistics(found, test).sum(0)))}
        for name, metric in zip(_METRICS, (mean_iou, pixel_accuracy), strict=True)
    }
    return _row("torchvision's loop", seed, values, seconds, 0.0)


def _train(network: Any, task: Any, rows: Any, phase: Any, training: Any) -> None:
    torch.manual_seed(training.seed)
    draws = torch.Generator().manual_seed(training.seed)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    size, epochs = training.batch_size, training.epochs
    optimiser = torch.optim.SGD(trained, _RATE_OF_AN_IMAGE * size, momentum=0.9, weight_decay=1e-4)
    steps = epochs * (len(rows) // size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.0, 1 - step / steps) ** 0.9)
    for _ in range(epochs):
        phase.set_mode(network)
        for numbers in torch.randperm(len(rows), generator=draws).split(size):
            if len(numbers) < size:  # it drops the last, smaller batch
                continue
            batch = task.batch(rows, numbers.numpy(), draws)
            targets = batch.pop("targets")
            loss = torch.nn.functional.cross_entropy(network(batch), targets, ignore_index=-1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def table(rows: list[Row]) -> str:
    lines = [f"{'':34} seeds   mIoU    ± sd  pixels  train s  whole s"]
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        iou, pixels = ([row[metric] for row in mine] for metric in _METRICS)
        spread = statistics.stdev(iou) if len(iou) > 1 else 0.0
        train, seconds = (statistics.median(row[key] for row in mine) for key in ("train_seconds", "seconds"))
        lines.append(
            f"{name:34} {len(mine):5} {np.mean(iou):6.4f} {spread:7.4f} {np.mean(pixels):7.4f}"
            f" {train:8.1f} {seconds:8.1f}"
        )
    return "\n".join(lines)


def main(*words: str) -> None:
    recipe = next((Path(word) for word in words if word.endswith(".yaml")), RECIPE)
    seeds = [int(word) for word in words if word.isdigit()] or [0, 1, 2]
    FURTHER.extend(word for word in words if "=" in word)
    told = [word for word in FURTHER if not word.startswith("source.path=")]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        for seed in seeds:
            into = Path(folder) / str(seed)
            rows += ours(recipe, seed, into)
            rows.append(reference(recipe, seed, into))
            (RESULTS / f"{recipe.stem}.json").write_text(
                json.dumps({"machine": machine(), "settings": told, "rows": rows}, indent=1) + "\n"
            )
            print(table(rows), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
