"""Small real parts for the registry's tests: a dataset, models, and the reports that judge them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from retrainer import extend
from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.formats.dataset import SCHEMA, Dataset, write_dataset
from retrainer.formats.model import Trained, write_model
from retrainer.gate.evidence import Anchor, Champion
from retrainer.settings import Backbone, Compute, Evaluation, Gate, Task, Training
from retrainer.training.compute import resolve_compute
from retrainer.training.train import build_network

IMAGES = Task.parse({"kind": "image_classification", "size": 8, "channels": 1}, "task")
MLP = Backbone.parse({"family": "mlp", "hidden": [6]}, "backbone")
HISTORY = [{"epoch": 1, "train_loss": 0.9, "kept": False}, {"epoch": 2, "train_loss": 0.5, "kept": True}]
COMPUTE = Compute(device="cpu", dtype="float32", threads=1)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def image_dataset(path: Path, rows: int = 24) -> Path:
    """Random grey images of three classes in the splits train and test."""
    draw = np.random.default_rng(0)
    images = [{"bytes": png(draw.integers(0, 256, (8, 8), np.uint8)), "path": None} for _ in range(rows)]
    table = pa.table(
        {
            "image": pa.array(images, SCHEMA["image"]),
            "labels": pa.array([["abc"[row % 3]] for row in range(rows)], SCHEMA["labels"]),
            "origin": pa.array([f"row {row}" for row in range(rows)]),
        }
    )
    half = rows // 2
    write_dataset(path, {"train": table.slice(0, half), "test": table.slice(half)})
    return path


def untrained_model(
    path: Path, dataset: Path, task: Task = IMAGES, backbone: Backbone = MLP, seed: int = 0
) -> Path:
    """A whole model directory, its weights drawn from `seed`."""
    data = Dataset(dataset)
    training = Training(strategy="scratch", seed=seed)
    job = extend.load("tasks", task.kind, "task.kind").make(task, data.labels)
    sections = {"task": task, "backbone": backbone, "training": training, "compute": COMPUTE}
    network = build_network(job, backbone, training, None)
    plain = {name: section.plain() for name, section in sections.items()}
    trained = Trained(network, backbone.family, data.labels, HISTORY)
    write_model(path, trained, plain, data.content_sha256, dataset)
    return path


def judged(
    path: Path,
    dataset: Path,
    model: Path,
    champion: Champion | None,
    anchor: Anchor | None = None,
    known: Mapping[str, Any] = MappingProxyType({}),
    **gate: Any,
) -> Path:
    """evaluate's report of the model, against the champion, and the anchor where one is given; `known` are
    further fields of the request."""
    evaluation = Evaluation(resamples=100, baseline=False, explain=0)
    rule = Gate(**{"beat_trivial": False, **gate})
    compute = resolve_compute(COMPUTE)
    evaluate_model(Request(dataset, model, path, evaluation, rule, compute, champion, anchor=anchor, **known))
    return path
