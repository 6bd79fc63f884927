"""CIFAR-10 from its JPEG files to a target accuracy on its test rows: one contender, a process of its own.

    python -m benchmarks.gpu.cifar10 DIR --who ours

DIR holds train/<class>/*.jpg and test/<class>/*.jpg. Prints one line of JSON. The test rows are scored after
each epoch, and the first one that reaches the target ends the run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def ours(chosen: argparse.Namespace) -> list[float]:
    """The accuracy after each epoch, by `fit` on what the task made of the files."""
    import torch

    from benchmarks.gpu._ours import Enough
    from retrainer.models import torchvision
    from retrainer.models._network import Network
    from retrainer.settings import Compute, Task, Training
    from retrainer.tasks import image_classification
    from retrainer.training.compute import resolve_compute
    from retrainer.training.learner import Learner, Splits
    from retrainer.training.loop import fit

    labels = tuple(sorted(path.name for path in Path(chosen.directory, "train").iterdir()))
    marks = [("imported", time.perf_counter())]
    options = {"size": chosen.size, "flip": True, "shift": chosen.size // 8}
    task = image_classification.make(Task.parse({"kind": "image_classification", **options}, "task"), labels)
    stem = torchvision.Options(name=chosen.network, stem=chosen.stem)
    body = torchvision.build(stem, task.input_spec(), None, 0, fresh=True)
    marks.append(("built", time.perf_counter()))
    tables = [_table(Path(chosen.directory, name), labels) for name in ("train", "test")]
    marks.append(("read", time.perf_counter()))
    train, test = ((task.encode(table, body.preprocessing, {}), task.targets(table)) for table in tables)
    marks.append(("decoded", time.perf_counter()))
    seen: list[float] = []

    def scored(epoch: int, figures: dict[str, float]) -> None:
        seen.append(figures["validation_accuracy"])
        marks.append((f"epoch {epoch}", time.perf_counter()))
        if seen[-1] >= chosen.target:
            raise Enough

    plan = {"strategy": "scratch", "epochs": chosen.epochs, "batch_size": chosen.batch, "keep": "last"}
    plan |= {"learning_rate": chosen.rate, "weight_decay": chosen.decay, "label_smoothing": 0.1}
    plan |= {"warmup": chosen.warmup, "start_size": chosen.start_size, "ema_decay": chosen.average}
    training = Training.parse(plan | {"schedule": "linear", "seed": chosen.seed}, "training")
    torch.manual_seed(chosen.seed)
    compute = resolve_compute(Compute.parse({"compile": chosen.compile}, "compute"))
    with suppress(Enough):
        network = Network(body, task.head(body, training))
        fit(Learner(network, task, training, compute), Splits(train, test), scored)
    for (_, before), (name, after) in pairwise(marks):
        print(f"{name}: {after - before:.2f} s", file=sys.stderr)
    return seen


def _table(folder: Path, labels: tuple[str, ...]) -> Any:
    """A split's rows, as a dataset holds them."""
    import pyarrow as pa

    files = [(path, label) for label in labels for path in sorted((folder / label).iterdir())]
    return pa.table(
        {
            "image": [{"bytes": path.read_bytes()} for path, _ in files],
            "labels": [[label] for _, label in files],
            "origin": [f"{label}/{path.name}" for path, label in files],
        }
    )


def torchvision_style(chosen: argparse.Namespace) -> list[float]:
    """The same network, epochs, batch and rates: ImageFolder, workers, bfloat16, channels last."""
    import torch
    from torch.nn import functional
    from torchvision import datasets, models, transforms

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(chosen.seed)
    torch.backends.cudnn.benchmark = True
    last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    moved = [transforms.RandomCrop(chosen.size, chosen.size // 8), transforms.RandomHorizontalFlip()]
    sized = transforms.Resize(chosen.size)
    workers = min(16, os.cpu_count() or 1) if device.type == "cuda" else 0
    more = {"num_workers": workers, "pin_memory": workers > 0, "persistent_workers": workers > 0}
    read = {
        name: torch.utils.data.DataLoader(
            datasets.ImageFolder(str(Path(chosen.directory) / name), transforms.Compose([sized, *steps])),
            chosen.batch, shuffle=name == "train", drop_last=name == "train", **more,
        )
        for name, steps in (("train", moved + last), ("test", last))
    }  # fmt: skip
    network = models.get_model(chosen.network, num_classes=len(read["train"].dataset.classes))
    if chosen.stem == "small":
        network.conv1, network.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.nn.Identity()
    network = network.to(device=device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=chosen.rate, weight_decay=chosen.decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, chosen.rate, epochs=chosen.epochs, steps_per_epoch=max(1, len(read["train"])),
        pct_start=chosen.warmup, anneal_strategy="linear",
    )  # fmt: skip
    seen: list[float] = []
    while len(seen) < chosen.epochs and max(seen, default=0.0) < chosen.target:
        network.train()
        for pixels, wanted in read["train"]:
            pixels = pixels.to(device, non_blocking=True, memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                output = network(pixels)
                loss = functional.cross_entropy(output, wanted.to(device), label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        network.eval()
        right = 0
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
            for pixels, wanted in read["test"]:
                right += int((network(pixels.to(device)).argmax(1).cpu() == wanted).sum())
        seen.append(right / len(read["test"].dataset))
    return seen


WHO = {"ours": ours, "torchvision": torchvision_style}


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(prog="python -m benchmarks.gpu.cifar10")
    words.add_argument("directory")
    words.add_argument("--who", choices=WHO, default="ours")
    words.add_argument("--network", default="resnet18", help="torchvision's name")
    words.add_argument("--stem", default="small", help="own: 7×7 and a pooling")
    words.add_argument("--size", type=int, default=32, help="pixels that the 32 are scaled to")
    words.add_argument("--epochs", type=int, default=16)
    words.add_argument("--rate", type=float, default=5e-3)
    words.add_argument("--decay", type=float, default=0.1)
    words.add_argument("--warmup", type=float, default=0.25)
    words.add_argument("--start-size", type=float, default=1.0)
    words.add_argument("--average", type=float, default=0.0)
    words.add_argument("--compile", action="store_true", help="ours by torch.compile")
    words.add_argument("--batch", type=int, default=512)
    words.add_argument("--target", type=float, default=0.94)
    words.add_argument("--seed", type=int, default=0)
    return words


def main(argv: list[str]) -> None:
    chosen = parser().parse_args(argv)
    seen = WHO[chosen.who](chosen)
    told = {"accuracy": max(seen), "epochs": len(seen), "reached": max(seen) >= chosen.target}
    print(json.dumps(told | {"settings": {k: v for k, v in vars(chosen).items() if k != "directory"}}))


if __name__ == "__main__":
    main(sys.argv[1:])
