"""The recipe digits-segmentation, or another, beside its baselines and torchvision's reference loop, on the
same rows.

    python -m benchmarks.segmentation [benchmarks/coasts.yaml] [seeds…] [section.key=value…]

The reference trains the very same network on the same rows, changed as the recipe says, for as many epochs,
by the optimiser and schedule of torchvision's references/segmentation/train.py: SGD with momentum 0.9, weight
decay 1e-4, 0.01 for 8 images a step, times (1 - step / steps) ** 0.9, the loss a mean over all pixels of a
batch, no clipping. Prints a table and writes `benchmarks/results/RECIPE.json`, after each run.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from benchmarks import _beside_torchvision
from benchmarks._beside_torchvision import Study
from benchmarks._runs import ROOT
from retrainer.metrics import mean_iou, pixel_accuracy
from retrainer.training.learner import Learner

RESULTS = ROOT / "benchmarks" / "results"
RECIPE = ROOT / "recipes" / "digits-segmentation.yaml"
_RATE_OF_AN_IMAGE = 0.01 / 8


def _value(metric: Any, found: pa.Table, test: pa.Table) -> float:
    return float(metric.value(metric.statistics(found, test).sum(0)))


METRICS = {"mean_iou": partial(_value, mean_iou), "pixel_accuracy": partial(_value, pixel_accuracy)}


def loop(learner: Learner, rows: Any, phase: Any) -> None:
    """As torchvision's references/segmentation/train.py trains."""
    network, training = learner.network, learner.training
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
            batch = learner.task.batch(rows, numbers.numpy(), draws)
            targets = batch.pop("targets")
            loss = torch.nn.functional.cross_entropy(network(batch), targets, ignore_index=-1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def main(*words: str) -> None:
    recipe = next((Path(word) for word in words if word.endswith(".yaml")), RECIPE)
    seeds = [int(word) for word in words if word.isdigit()] or [0, 1, 2]
    study = Study(recipe, [word for word in words if "=" in word], METRICS, loop)
    _beside_torchvision.run(study, seeds, RESULTS / f"{recipe.stem}.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
