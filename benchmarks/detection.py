"""BCCD (blood cells, its own test list): the recipe beside two baselines and torchvision's reference loop.

    python -m benchmarks.detection PATH_OF_BCCD [seeds…] [section.key=value…]

`PATH_OF_BCCD` is its folder or archive. The reference trains the very same
network on the same rows for as many epochs, as torchvision's references/detection/engine.py and train.py do:
SGD with momentum 0.9, weight decay 1e-4, 0.02 for 16 images a step, a first epoch that raises the rate from
1/1000, a tenth of it after 16/26 and 22/26 of the epochs, images mirrored half of the time, no clipping.
Prints a table and writes `benchmarks/results/detection.json`, after each run.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks import _beside_torchvision
from benchmarks._beside_torchvision import Study
from retrainer.metrics import average_precision, average_precision_50
from retrainer.tasks._boxes import Augmentation
from retrainer.training.learner import Learner

RESULTS = Path(__file__).parent / "results" / "detection.json"
RECIPE = Path(__file__).parent / "bccd.yaml"
_RATE_OF_AN_IMAGE = 0.02 / 16
_STEPS = (16 / 26, 22 / 26)


def _value(metric: Any, found: pa.Table, test: pa.Table) -> float:
    return float(metric.value_of_rows(metric.statistics(found, test), np.ones(len(test))))


METRICS = {
    "average_precision_50": partial(_value, average_precision_50),
    "average_precision": partial(_value, average_precision),
}


def loop(learner: Learner, rows: Any, phase: Any) -> None:
    """As torchvision's references/detection/engine.py and train.py train."""
    network, training = learner.network, learner.training
    draws = torch.Generator().manual_seed(training.seed)
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


def main(data: str, *words: str) -> None:
    seeds = [int(word) for word in words if "=" not in word] or [0, 1, 2]
    settings = [f"source.path={data}", *(word for word in words if "=" in word)]
    _beside_torchvision.run(Study(RECIPE, settings, METRICS, loop), seeds, RESULTS)


if __name__ == "__main__":
    main(*sys.argv[1:])
