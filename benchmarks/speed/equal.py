"""Accuracy behind the same training, over five seeds: what a faster step must not cost.

Small models, so that five seeds take minutes. Everybody trains as long, from the same first values.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.speed import banking77, cifar10, mlp
from benchmarks.speed._texts import MINILM, prepare_dataset, write_settings
from benchmarks.speed.race import SEEDS, Contender, Job

_MLP_EPOCHS, _CIFAR_EPOCHS = 40, 3


def _senses(work: Path) -> None:
    """The default recipe's rows and training; its test rows are what epochs are measured on."""
    prepare_dataset(work, [], "test")
    own = {"epochs": 3, "batch_size": 32, "learning_rate": 1e-3, "backbone_learning_rate": 1e-4}
    write_settings(work, MINILM, **own, dropout=0.1, keep="last")


def _cifar(work: Path) -> None:
    cifar10.prepare(work, train=200, validation=200)


def _job(name: str, what: str, prepare: Callable[[Path], None], *contenders: Contender) -> Job:
    return Job(name, f"{what}, {SEEDS} seeds", prepare, contenders, measure="accuracy", rounds=SEEDS)


_MLP, _CIFAR, _TEXTS = "benchmarks.speed.mlp", "benchmarks.speed.cifar10", "benchmarks.speed._texts"
_EPOCHS, _ROUNDS = {"epochs": _MLP_EPOCHS}, {"epochs": _CIFAR_EPOCHS}

JOBS = [
    _job(
        "mlp-equal",
        f"784-128-64-10, 3,000 digits, {_MLP_EPOCHS} epochs",
        mlp.prepare,
        Contender("ours", f"{_MLP}:ours", _EPOCHS),
        Contender("tensors in memory by hand", f"{_MLP}:in_memory", _EPOCHS),
        Contender("plain DataLoader", f"{_MLP}:plain", _EPOCHS),
    ),
    _job(
        "minilm-equal",
        "MiniLM, full fine-tune on the default recipe's word senses, 3 epochs",
        _senses,
        Contender("ours", f"{_TEXTS}:ours"),
        Contender("transformers.Trainer, tuned", "benchmarks.speed._trainer:tuned"),
    ),
    _job(
        "frozen-equal",
        "MiniLM frozen, embedded once in either number format, a head on Banking77",
        banking77.prepare,
        Contender("ours, bfloat16", f"{_TEXTS}:ours", banking77.HEAD | {"dtype": "bfloat16"}),
        Contender("ours, float32", f"{_TEXTS}:ours", banking77.HEAD | {"dtype": "float32"}),
    ),
    _job(
        "resnet18-equal",
        f"ResNet-18 from scratch on 2,000 images of CIFAR-10 at 32 px, {_CIFAR_EPOCHS} epochs",
        _cifar,
        Contender("ours", f"{_CIFAR}:ours", _ROUNDS),
        Contender("timm, tuned", f"{_CIFAR}:tuned_timm", _ROUNDS),
        Contender("plain loop", f"{_CIFAR}:plain", _ROUNDS),
    ),
]
