"""What is trained at each point of the learning curves of `need.py`: accuracy by the rows that are learned.

Legend: N rows that may be learned.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks._runs import ROOT, run_step
from benchmarks.trust._frozen import frozen, probabilities

# Rows, seed → accuracy on the test rows.
Recipe = Callable[[np.ndarray, int], float]


def head(name: str, kept: Path) -> tuple[Recipe, int]:
    data = frozen(name, kept)

    def accuracy(rows: np.ndarray, seed: int) -> float:  # noqa: ARG001 (a convex fit draws nothing)
        found = probabilities(data.train[rows], data.targets[rows], data.test, data.classes)
        return float((found.argmax(axis=1) == data.answers).mean())

    return accuracy, len(data.train)


def ridge(name: str) -> tuple[Recipe, int]:
    """The cheap head of every report, on its own features."""
    import pyarrow as pa

    from benchmarks.trust import _frozen
    from retrainer.formats.dataset import IMAGE
    from retrainer.tasks._class_baselines import maker
    from retrainer.tasks._class_curve import dense, scores_of_parts

    train, test = _frozen._banking() if name == "banking77" else _frozen._cifar()
    column, kind = ("text", pa.string()) if name == "banking77" else ("image", IMAGE)
    tables = [pa.table({column: pa.array([row[column] for row in rows], kind)}) for rows in (train, test)]
    labels = sorted({row["labels"][0] for row in train})
    codes = [np.array([labels.index(row["labels"][0]) for row in rows]) for rows in (train, test)]
    features = maker([column])(*tables, len(labels))
    before, after = dense(features.train), dense(features.test)
    targets = np.eye(len(labels), dtype=np.float32)[codes[0]]

    def accuracy(rows: np.ndarray, seed: int) -> float:  # noqa: ARG001 (solved in closed form)
        ((_, scores),) = scores_of_parts(before, targets, after, [np.sort(rows)])
        return float((scores.argmax(axis=1) == codes[1]).mean())

    return accuracy, len(train)


def digits(kept: Path) -> tuple[Recipe, int]:
    """The 784-128-64-10 network from scratch, by the recipe's own settings."""
    from components.ingest import ingest
    from components.preprocess import preprocess
    from retrainer.formats.dataset import Dataset, write_dataset
    from retrainer.metrics._classes import classes
    from retrainer.predict import Predictor
    from retrainer.resolve import resolve
    from retrainer.settings import Backbone, Compute, Task, Training
    from retrainer.training.compute import resolve_compute
    from retrainer.training.inputs import Inputs, Settings
    from retrainer.training.train import train_model

    into = kept / "digits"
    settled = resolve("digits-mlp", [], ROOT, into)
    for step in (ingest, preprocess):
        run_step(step, settled, into)
    data = Dataset(into / "dataset")
    train, test = data.split("train"), data.split("test")
    compute = resolve_compute(Compute.parse({"device": "cpu", "dtype": "float32", "threads": 1}, "compute"))
    task, backbone = (
        Task.parse(settled.settings["task"], "task"),
        Backbone.parse(settled.settings["backbone"], "backbone"),
    )

    def accuracy(rows: np.ndarray, seed: int) -> float:
        write_dataset(into / "part", {"train": train.take(rows), "validation": data.split("validation")})
        training = Training.parse({**settled.settings["training"], "seed": seed}, "training")
        train_model(Inputs(into / "part", Settings(task, backbone, training, compute)), into / "model")
        return float(classes(Predictor.load(into / "model").predict(test), test).correct.mean())

    return accuracy, len(train)
