"""CIFAR-10 from its JPEG files to an accuracy on its test rows: one contender, a process of its own.

    python -m benchmarks.gpu.cifar10 DIR --who ours [--set training.epochs=20]

DIR holds train/<class>/*.jpg and test/<class>/*.jpg. The training has a fixed length, and the test rows are
scored once, behind it. Ours is the recipe `recipes/cifar10.yaml`. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.pool import AsyncResult
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).parents[2] / "recipes" / "cifar10.yaml"
_READERS = 16

# Names and bytes of the files of each class of a split.
Files = dict[str, list[tuple[str, bytes]]]


class Clock:
    """Seconds between marks, on standard error."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        now = time.perf_counter()
        print(f"{name}: {now - self._last:.2f} s", file=sys.stderr, flush=True)
        self._last = now


def ours(directory: str, changes: dict[str, Any], seed: int) -> tuple[float, dict[str, Any]]:
    """The accuracy on the test rows, and the settings."""
    clock = Clock()
    with reading(directory) as files:
        from retrainer.training.loop import fit

        clock.mark("imported")
        learner = made_learner(sorted(files["train"]), recipe(changes, seed))
        clock.mark("built")
        with ThreadPoolExecutor() as threads:
            warmed = threads.submit(warm_up, learner)
            tables = [_table(files[name]) for name in ("train", "test")]
            clock.mark("read")
            train, test = threads.map(lambda table: encoded(learner, table), tables)
            clock.mark("decoded")
            warmed.result()
    clock.mark("device ready")

    from retrainer.training.learner import Splits

    fit(learner, Splits(train), lambda epoch, _: clock.mark(f"epoch {epoch}"))
    right = accuracy(learner, test)
    clock.mark("scored")
    return right, recipe(changes, seed)


def recipe(changes: dict[str, Any], seed: int) -> dict[str, Any]:
    """The recipe's sections that training reads, changed by `section.key`."""
    from retrainer.strict_yaml import parse_yaml

    sections = parse_yaml(RECIPE.read_text(encoding="utf-8"), "recipes/cifar10.yaml")
    plain: dict[str, Any] = {
        name: dict(sections.get(name) or {}) for name in ("task", "backbone", "training", "compute")
    }
    plain["training"]["seed"] = seed
    for key, value in changes.items():
        section, _, name = key.partition(".")
        plain[section][name] = value
    return plain


def made_learner(labels: list[str], plain: dict[str, Any]) -> Any:
    """The sections' network before any training, with its task."""
    import torch

    from retrainer.models import torchvision, whitened_conv
    from retrainer.models._network import Network
    from retrainer.settings import Backbone, Compute, Task, Training
    from retrainer.tasks import image_classification
    from retrainer.training.compute import resolve_compute
    from retrainer.training.learner import Learner
    from retrainer.training.loop import own_randomness

    task = image_classification.make(Task.parse(plain["task"], "task"), tuple(labels))
    backbone = Backbone.parse(plain["backbone"], "backbone")
    training = Training.parse(plain["training"], "training")
    family: Any = {"torchvision": torchvision, "whitened_conv": whitened_conv}[backbone.family]
    options = family.Options.parse(backbone.options, "backbone")
    body = family.build(options, task.input_spec(), None, training.seed, fresh=True)
    with own_randomness(training.seed, torch.device("cpu"), "head"):
        network = Network(body, task.head(body, training))
    return Learner(network, task, training, resolve_compute(Compute.parse(plain["compute"], "compute")))


def warm_up(learner: Any) -> None:
    """Makes a GPU ready while others read and decode: its context, convolutions, and kernels of our own."""
    import torch

    from retrainer.models._halved import halved
    from retrainer.training.compute import prepare

    device = prepare(learner.compute)
    if device.type == "cuda":
        with torch.no_grad():
            rows = torch.zeros(8, 8, 8, 8, device=device, dtype=torch.bfloat16)
            torch.nn.functional.conv2d(rows, rows)
        maps = torch.zeros(2, 32, 4, 4, device=device, dtype=torch.bfloat16, requires_grad=True)
        halved(maps).sum().backward()
        torch.cuda.synchronize()


def encoded(learner: Any, table: Any) -> Any:
    """Rows decoded for the network, and their targets."""
    body = learner.network.description
    return learner.task.encode(table, body.preprocessing, body.assets), learner.task.targets(table)


def accuracy(learner: Any, data: Any) -> float:
    """Of the trained network on encoded rows, in the number format that it trained in."""
    import numpy as np
    import torch

    from retrainer.training.compute import autocast, prepare

    rows, targets = data
    device, task = prepare(learner.compute), learner.task
    network = learner.network.to(device=device, memory_format=torch.channels_last)
    placed, right = rows.to(device), 0.0
    with torch.no_grad(), autocast(learner.compute):
        for some in np.array_split(np.arange(len(targets)), -(-len(targets) // 1000)):
            outputs = network(task.batch(placed, some, None))
            right += float(task.figures(outputs, torch.from_numpy(targets[some]))["accuracy"].sum())
    return right / len(targets)


@contextmanager
def reading(directory: str) -> Iterator[dict[str, dict[str, AsyncResult[Any]]]]:
    """By split and class, what processes read while this one imports. Forked while it is still small."""
    with multiprocessing.get_context("fork").Pool(min(_READERS, os.cpu_count() or 1)) as pool:
        yield {
            split: {
                folder.name: pool.apply_async(_files, (str(folder),))
                for folder in sorted(Path(directory, split).iterdir())
            }
            for split in ("train", "test")
        }


def _files(folder: str) -> list[tuple[str, bytes]]:
    with os.scandir(folder) as entries:  # Path.iterdir takes twice as long
        places = sorted((entry.name, entry.path) for entry in entries)
    return [(name, Path(path).read_bytes()) for name, path in places]


def _table(read: dict[str, AsyncResult[Any]]) -> Any:
    """A split's rows, as a dataset holds them."""
    import pyarrow as pa

    rows = [(label, *file) for label, files in read.items() for file in files.get()]
    return pa.table(
        {
            "image": pa.StructArray.from_arrays(
                [pa.array([data for *_, data in rows], pa.binary())], ["bytes"]
            ),
            "labels": [[label] for label, *_ in rows],
            "origin": [f"{label}/{name}" for label, name, _ in rows],
        }
    )


def torchvision_style(directory: str, changes: dict[str, Any], seed: int) -> tuple[float, dict[str, Any]]:
    """ResNet-18 by ImageFolder, workers and AdamW."""
    from benchmarks.gpu import _cifar10_peer

    settings = _cifar10_peer.SETTINGS | changes
    return _cifar10_peer.train(directory, settings, seed), settings


WHO = {"ours": ours, "torchvision": torchvision_style}


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(prog="python -m benchmarks.gpu.cifar10")
    words.add_argument("directory")
    words.add_argument("--who", choices=WHO, default="ours")
    words.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="JSON; ours: section.key=value"
    )
    words.add_argument("--target", type=float, default=0.94)
    words.add_argument("--seed", type=int, default=0)
    return words


def changed(words: list[str]) -> dict[str, Any]:
    pairs = [word.partition("=") for word in words]
    return {key: json.loads(value) for key, _, value in pairs}


def main(argv: list[str]) -> None:
    chosen = parser().parse_args(argv)
    found, settings = WHO[chosen.who](chosen.directory, changed(chosen.set), chosen.seed)
    epochs = settings["training"]["epochs"] if chosen.who == "ours" else settings["epochs"]
    told = {"who": chosen.who, "accuracy": found, "epochs": epochs, "reached": found >= chosen.target}
    print(json.dumps(told | {"seed": chosen.seed, "settings": settings}))


if __name__ == "__main__":
    main(sys.argv[1:])
