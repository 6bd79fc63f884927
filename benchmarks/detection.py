"""BCCD (blood cells, its own test list): the recipe beside two baselines and torchvision's reference loop.

    python -m benchmarks.detection PATH_OF_BCCD [seeds…] [section.key=value…]

`PATH_OF_BCCD` is its folder or archive. The reference trains the very same
network on the same rows for as many epochs, as torchvision's references/detection/engine.py and train.py do:
SGD with momentum 0.9, weight decay 1e-4, 0.02 for 16 images a step, a first epoch that raises the rate from
1/1000, a tenth of it after 16/26 and 22/26 of the epochs, images mirrored half of the time, no clipping.
Prints a table and writes `benchmarks/results/detection.json`, after each run.
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
from retrainer.metrics import average_precision, average_precision_50
from retrainer.predict import Predictor
from retrainer.resolve import Resolved, resolve
from retrainer.services.weights import fetch
from retrainer.tasks._boxes import Augmentation
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.learner import Splits
from retrainer.training.strategies import plan
from retrainer.training.train import encode, prepare

RESULTS = Path(__file__).parent / "results" / "detection.json"
RECIPE = Path(__file__).parent / "bccd.yaml"
FURTHER: list[str] = []  # settings of this machine, as "compute.threads=1"
_RATE_OF_AN_IMAGE = 0.02 / 16
_STEPS = (16 / 26, 22 / 26)

Row = dict[str, Any]


def settled(data: str, seed: int, into: Path) -> Resolved:
    """The recipe's settings, resolved in `into`."""
    (into / "recipes").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "params.yaml", into)
    shutil.copy(RECIPE, into / "recipes")
    return resolve(RECIPE.stem, [f"source.path={data}", f"training.seed={seed}", *FURTHER], into, into)


def ours(data: str, seed: int, into: Path) -> list[Row]:
    """The whole pipeline, and its two baselines."""
    settings = settled(data, seed, into)
    steps = (ingest, preprocess, train, evaluate)
    seconds = {step.__name__: run_step(step, settings, into) for step in steps}
    figures = json.loads((into / "report" / "metrics.json").read_text())
    rows = [_row("retrainer", seed, figures["metrics"], seconds["train"], sum(seconds.values()))]
    rows[0]["per_class"] = figures["details"]["per_class"]
    rows += [_row(name, seed, one["metrics"], 0.0, 0.0) for name, one in figures["baselines"].items()]
    return rows


def _row(name: str, seed: int, metrics: dict[str, Any], train: float, seconds: float) -> Row:
    values = {metric: metrics[metric]["value"] for metric in ("average_precision_50", "average_precision")}
    return {
        "name": name,
        "seed": seed,
        **values,
        "train_seconds": round(train, 1),
        "seconds": round(seconds, 1),
    }


def reference(data: str, seed: int, into: Path) -> Row:
    """torchvision's loop over the network that the recipe builds, on the dataset that its run has made."""
    resolved = settled(data, seed, into)
    sections = {name: resolved.section(name) for name in Settings._fields}
    settings = Settings.parse({name: section.plain() for name, section in sections.items()})
    dataset = Dataset(into / "dataset")
    torch.set_num_threads(settings.compute.threads)
    learner, table = prepare(Inputs(into / "dataset", settings, fetch(settings.backbone)))
    task, network = learner.task, learner.network
    rows, targets = encode(table, task, network)
    network.to(memory_format=torch.channels_last)
    # The same layers stay as they came.
    phase = next(plan(learner, Splits((rows, targets)), torch.device("cpu")).phases(1))
    began = time.perf_counter()
    _train(network, rows, phase, settings.training, seed)
    seconds = time.perf_counter() - began
    test = dataset.split("test")
    found = Predictor(network.eval(), task, "cpu", "").predict(test)
    values = {
        name: {"value": float(metric.value_of_rows(metric.statistics(found, test), np.ones(len(test))))}
        for name, metric in (
            ("average_precision_50", average_precision_50),
            ("average_precision", average_precision),
        )
    }
    return _row("torchvision's loop", seed, values, seconds, 0.0)


def _train(network: Any, rows: Any, phase: Any, training: Any, seed: int) -> None:
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    size, epochs = training.batch_size, training.epochs
    optimiser = torch.optim.SGD(trained, _RATE_OF_AN_IMAGE * size, momentum=0.9, weight_decay=1e-4)
    steps = [round(share * epochs) for share in _STEPS]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, steps, gamma=0.1)
    for epoch in range(epochs):
        phase.set_mode(network)
        batches = torch.randperm(len(rows), generator=draws).split(size)
        warmup = None
        if epoch == 0:
            most = min(1000, len(batches) - 1)
            warmup = torch.optim.lr_scheduler.LinearLR(optimiser, start_factor=1 / 1000, total_iters=most)
        for numbers in batches:
            batch = rows.batch(numbers.numpy(), Augmentation(flip=True), draws)
            targets = batch.pop("targets")
            loss = network(batch).losses(targets).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if warmup is not None:
                warmup.step()
        schedule.step()


def table(rows: list[Row]) -> str:
    lines = [f"{'':22} seeds    AP50    ± sd      AP  train s  whole s"]
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        half, whole = ([row[key] for row in mine] for key in ("average_precision_50", "average_precision"))
        spread = statistics.stdev(half) if len(half) > 1 else 0.0
        train, seconds = (statistics.median(row[key] for row in mine) for key in ("train_seconds", "seconds"))
        lines.append(
            f"{name:22} {len(mine):5} {statistics.mean(half):7.4f} {spread:7.4f}"
            f" {statistics.mean(whole):7.4f}"
            f" {train:8.1f} {seconds:8.1f}"
        )
    return "\n".join(lines)


def main(data: str, *words: str) -> None:
    seeds = [int(word) for word in words if "=" not in word] or [0, 1, 2]
    FURTHER.extend(word for word in words if "=" in word)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        for seed in seeds:
            into = Path(folder) / str(seed)
            rows += ours(data, seed, into)
            rows.append(reference(data, seed, into))
            RESULTS.write_text(
                json.dumps({"machine": machine(), "settings": FURTHER, "rows": rows}, indent=1) + "\n"
            )
            print(table(rows), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
