"""Time to an accuracy on 10,000 images of CIFAR-10: ResNet-18 from scratch, the whole process."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.speed import _ours, _peers
from benchmarks.speed._rows import Sections, draw_weights, make_rows, unpack_cifar
from benchmarks.speed.race import Contender, Figures, Job, begin

SIDE, BATCH, RATE, CLASSES = 32, 64, 1e-3, 10
EPOCHS = 3
# What so many images give in a few epochs, without pretrained weights.
TARGET = 0.55
_A_CLASS, _HELD_OUT = 1000, 200
_HERE = "benchmarks.speed.cifar10"


def sections(epochs: int = EPOCHS, side: int = SIDE) -> Sections:
    return {
        "task": {"kind": "image_classification", "size": side, "flip": True},
        "backbone": {"family": "torchvision", "name": "resnet18"},
        "training": {
            "strategy": "scratch",
            "epochs": epochs,
            "batch_size": BATCH,
            "learning_rate": RATE,
            "schedule": "cosine",
            "keep": "last",
            "calibrate": False,
        },
        # bfloat16 is no faster on such small maps, for timm neither.
        "compute": {"device": "cpu", "dtype": "float32"},
    }


def prepare(work: Path, train: int = _A_CLASS, validation: int = _HELD_OUT, side: int = SIDE) -> None:
    told = sections(side=side)
    unpack_cifar(work / "images", 2 * (train + validation))
    make_rows(work, work / "images", train, validation, told["task"])
    draw_weights(work, told)


def ours(work: Path, seed: int, target: float = TARGET, epochs: int = EPOCHS, side: int = SIDE) -> Figures:
    return _ours.train(work, sections(epochs, side), seed, target)


def plain(work: Path, seed: int, target: float = TARGET, epochs: int = EPOCHS, side: int = SIDE) -> Figures:
    """As a tutorial does: PIL transforms, float32, Adam at one rate."""
    import torch
    from torchvision import models, transforms

    began = begin()
    network = _peers.begin_with(models.resnet18(num_classes=CLASSES), work, seed)
    flip = [transforms.RandomHorizontalFlip()]
    batches = _peers.torchvision_batches(work, side, BATCH, workers=0, training=flip)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    return _peers.train(network, optimiser, *batches, epochs, target=target, began=began)


def tuned_timm(
    work: Path, seed: int, target: float = TARGET, epochs: int = EPOCHS, side: int = SIDE, workers: int = 2
) -> Figures:
    """timm's network, loaders and optimiser; channels last, our schedule, decoding in workers."""
    import timm
    import torch
    from timm.optim import create_optimizer_v2

    began = begin()
    network = _peers.begin_with(timm.create_model("resnet18", num_classes=CLASSES), work, seed)
    network = network.to(memory_format=torch.channels_last)
    optimiser = create_optimizer_v2(network, opt="adamw", lr=RATE, weight_decay=0.01, fused=True)
    whole: dict[str, Any] = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "color_jitter": None}
    batches = _peers.timm_batches(work, side, BATCH, workers, **whole)

    def step_rate(step: int, steps: int) -> None:
        warm = max(1, steps // 10)
        done = (step - warm) / max(1, steps - warm)
        share = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * done))
        for group in optimiser.param_groups:
            group["lr"] = RATE * share

    return _peers.train(
        network,
        optimiser,
        *batches,
        epochs,
        step_rate=step_rate,
        channels_last=True,
        target=target,
        began=began,
    )


TIMM, PLAIN = "timm, tuned", "plain loop"

JOBS = [
    Job(
        name="cifar10",
        what=f"CIFAR-10, 10,000 images at {SIDE} px, ResNet-18 from scratch to {TARGET:.0%}, whole process",
        prepare=prepare,
        contenders=[
            Contender("ours", f"{_HERE}:ours"),
            Contender(TIMM, f"{_HERE}:tuned_timm"),
            Contender(PLAIN, f"{_HERE}:plain"),
        ],
        claims={TIMM: 1.0, PLAIN: 1.0},
        measure="to_target",
        rounds=2,
    )
]
