"""ResNet-18 at 224 px: a head on its frozen body, and all of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.speed import _ours, _peers
from benchmarks.speed._rows import Sections, draw_weights, make_rows, unpack_cifar
from benchmarks.speed.race import Contender, Figures, Job, begin

SIDE, BATCH, RATE, CLASSES = 224, 32, 1e-3, 10
_FILE_SIDE = 256
_FROZEN = {"strategy": "frozen", "epochs": 10, "learning_rate": 1e-2}
_FULL = {"strategy": "scratch", "epochs": 3, "learning_rate": RATE}
# A head on features that lie in memory costs little, so it may go on until it is as good as a solver's.
_LONG = 60
_HERE = "benchmarks.speed.resnet"


def sections(training: dict[str, Any], flip: bool = False, side: int = SIDE) -> Sections:
    return {
        "task": {"kind": "image_classification", "size": side, "flip": flip},
        "backbone": {"family": "torchvision", "name": "resnet18"},
        "training": {"batch_size": BATCH, "keep": "last", "calibrate": False, **training},
        "compute": {"device": "cpu"},
    }


def prepare(work: Path, train: int, validation: int, side: int = _FILE_SIDE) -> None:
    """`train` + `validation` rows of each class of CIFAR-10, scaled up."""
    told = sections(_FROZEN, side=side)
    unpack_cifar(work / "images", 2 * (train + validation), side)
    make_rows(work, work / "images", train, validation, told["task"])
    draw_weights(work, told)


def frozen(work: Path, seed: int, epochs: int = 10, side: int = SIDE, **compute: Any) -> Figures:
    told = sections(_FROZEN | {"epochs": epochs}, side=side)
    return _ours.train(work, told | {"compute": told["compute"] | compute}, seed)


def full(work: Path, seed: int, epochs: int = 3, side: int = SIDE) -> Figures:
    return _ours.train(work, sections(_FULL | {"epochs": epochs}, flip=True, side=side), seed)


def _resnet18(work: Path, seed: int) -> Any:
    from torchvision import models

    return _peers.begin_with(models.resnet18(num_classes=CLASSES), work, seed)


def plain(work: Path, seed: int, epochs: int, head_alone: bool, side: int = SIDE) -> Figures:
    """What a tutorial does: PIL transforms, float32, every row through the body in every epoch."""
    import torch
    from torchvision import transforms

    began = begin()
    network = _resnet18(work, seed)
    if head_alone:
        network.requires_grad_(False)
        network.fc.requires_grad_(True)
    flip = [] if head_alone else [transforms.RandomHorizontalFlip()]
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=RATE)
    batches = _peers.torchvision_batches(work, side, BATCH, workers=0, training=flip)
    body = network if head_alone else None
    return _peers.train(network, optimiser, *batches, epochs, frozen=body, began=began)


def cached(work: Path, seed: int, epochs: int = 10, side: int = SIDE, workers: int = 2) -> Figures:
    """Features by hand: torchvision's network without its head, channels last, and scikit-learn on top.

    Scaling the features spares the solver most of its iterations; the penalty is the best of four.
    """
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    began = begin()
    network = _resnet18(work, seed).eval().to(memory_format=torch.channels_last)
    network.fc = torch.nn.Identity()

    def features(batches: _peers.Batches) -> tuple[Any, Any]:
        made, labels = [], []
        with torch.inference_mode():
            for images, wanted in batches:
                made.append(network(images.contiguous(memory_format=torch.channels_last)))
                labels.append(wanted)
        return torch.cat(made).numpy(), torch.cat(labels).numpy()

    train, held_out = _peers.torchvision_batches(work, side, _CACHED_BATCH, workers)
    rows, labels = features(train)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(rows, labels)
    accuracy = float(head.score(*features(held_out)))
    return Figures(samples=epochs * len(rows), seconds=time.perf_counter() - began, accuracy=accuracy)


# The fastest of 4, 8, 16, 32, 64 for it on 2 cores.
_CACHED_BATCH = 8


def tuned_timm(work: Path, seed: int, epochs: int = 3, side: int = SIDE, workers: int = 2) -> Figures:
    """timm's network, loaders and optimiser: bfloat16, channels last, fused, decoding in workers."""
    import timm
    import torch
    from timm.optim import create_optimizer_v2

    began = begin()
    network = _peers.begin_with(timm.create_model("resnet18", num_classes=CLASSES), work, seed)
    network = network.to(memory_format=torch.channels_last)
    optimiser = create_optimizer_v2(network, opt="adamw", lr=RATE, weight_decay=0.01, fused=True)
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "color_jitter": None}
    batches = _peers.timm_batches(work, side, BATCH, workers, **whole)
    return _peers.train(network, optimiser, *batches, epochs, bfloat16=True, channels_last=True, began=began)


def _frozen_rows(work: Path) -> None:
    prepare(work, train=100, validation=40)


def _full_rows(work: Path) -> None:
    prepare(work, train=40, validation=10)


JOBS = [
    Job(
        name="resnet18-frozen",
        what="Frozen ResNet-18 at 224 px: 1,000 rows, 10 epochs (the plain loop: 1 epoch)",
        prepare=_frozen_rows,
        contenders=[
            Contender("ours", f"{_HERE}:frozen"),
            Contender("plain loop", f"{_HERE}:plain", {"epochs": 1, "head_alone": True}),
        ],
        claims={"plain loop": 25},
    ),
    Job(
        name="resnet18-cached",
        what=f"A head on ResNet-18's features at 224 px: 1,000 rows, {_LONG} epochs or a solver",
        prepare=_frozen_rows,
        contenders=[
            Contender("ours", f"{_HERE}:frozen", {"epochs": _LONG}),
            Contender("cached features by hand", f"{_HERE}:cached", {"epochs": _LONG}),
        ],
        claims={"cached features by hand": 1.3},
    ),
    Job(
        name="resnet18-full",
        what="Full ResNet-18 at 224 px: 400 rows, 3 epochs (the plain loop: 1 epoch)",
        prepare=_full_rows,
        contenders=[
            Contender("ours", f"{_HERE}:full"),
            Contender("timm, tuned", f"{_HERE}:tuned_timm"),
            Contender("plain loop", f"{_HERE}:plain", {"epochs": 1, "head_alone": False}),
        ],
        claims={"timm, tuned": 1.1, "plain loop": 2.4},
    ),
]
