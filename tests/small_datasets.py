"""Small dataset directories, and a training of a model directory from one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from retrainer.formats.dataset import SCHEMA, write_dataset
from retrainer.settings import Backbone, Task, Training
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import Session, train_model
from tests.small_networks import PLAIN, squares

TASK = Task(kind="image_classification", size=8, channels=1)
MLP = Backbone(family="mlp", hidden=(8,))


def image_dataset(path: Path, counts: dict[str, int], classes: tuple[str, ...] = ("top", "bottom")) -> Path:
    tables = {}
    for seed, (split, count) in enumerate(counts.items()):
        rows, targets = squares(count, seed)
        images = [{"bytes": png(image), "path": None} for image in rows.images[:, 0].numpy()]
        columns = {
            "image": pa.array(images, SCHEMA["image"]),
            "labels": pa.array([[classes[t % len(classes)]] for t in targets], SCHEMA["labels"]),
            "origin": pa.array([f"{split}:{i}" for i in range(count)]),
        }
        tables[split] = pa.table(columns)
    write_dataset(path, tables)
    return path


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def train_to(
    out: Path, dataset: Path, training: Training, backbone: Backbone = MLP, **more: Any
) -> dict[str, Any]:
    inputs = Inputs(dataset, Settings(TASK, backbone, training, PLAIN), more.pop("weights", None))
    return train_model(inputs, out, Session(**more))


def reviews_dataset(path: Path) -> Path:
    """Sentences of two classes, 200 to train on and 60 to validate by."""
    write_dataset(
        path, {name: reviews_table(count, name) for name, count in (("train", 200), ("validation", 60))}
    )
    return path


def reviews_table(count: int, name: str) -> pa.Table:
    """Sentences of words below 30; a class has its own first word."""
    draw = np.random.default_rng(count)
    classes = draw.integers(0, 2, count)
    rows = [[c, *draw.integers(2, 30, draw.integers(2, 10))] for c in classes]
    return pa.table(
        {
            "text": pa.array([" ".join(f"w{word}" for word in row) for row in rows], SCHEMA["text"]),
            "labels": pa.array([["no" if c else "yes"] for c in classes], SCHEMA["labels"]),
            "origin": pa.array([f"{name}:{row}" for row in range(count)]),
        }
    )
