"""Small models and their exported folders, for the tests of `make export`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrainer import extend
from retrainer.export.command import Request
from retrainer.formats.dataset import SCHEMA, Dataset, write_dataset
from retrainer.formats.model import Trained, write_model
from retrainer.settings import Backbone, Task, Training
from retrainer.training.train import build_network
from tests.encoders import save_encoder
from tests.predicting import CLASSES, PLAIN
from tests.registered import COMPUTE, HISTORY, image_dataset, untrained_model

TEMPERATURE = 1.3
# What a program that uses an ONNX folder need not have.
ABSENT = {"torch", "torchvision", "transformers", "timm", "retrainer", "pyarrow", "pandas", "mlflow", "onnx"}
# Imports fail of what the caller of an exported folder need not have.
_WITHOUT = """
import importlib.abc, json, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, {folder!r})
from use_me import Model
rows = [bytes.fromhex(row["bytes"]) if isinstance(row, dict) else row for row in json.load(sys.stdin)]
json.dump(Model().predict(rows), sys.stdout)
"""


def text_dataset(path: Path, pairs: bool = False, rows: int = 60, numbers: bool = False) -> Path:
    """Random words in the splits train (the first 12 rows) and test."""
    draw = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in draw.integers(0, 36, draw.integers(1, 12))) for _ in range(rows)]
    columns: dict[str, Any] = {"text": pa.array(texts, SCHEMA["text"])}
    if pairs:
        columns["text_pair"] = pa.array(texts[::-1], SCHEMA["text_pair"])
    if numbers:
        columns["target"] = pa.array(draw.normal(5, 3, rows), pa.float64())
    else:
        columns["labels"] = pa.array([[CLASSES[row % 3]] for row in range(rows)], SCHEMA["labels"])
    table = pa.table(columns)
    write_dataset(path, {"train": table.slice(0, 12), "test": table.slice(12)})
    return path


def encoder_model(
    folder: Path, kind: str, pooling: str, task_kind: str = "text_classification", pairs: bool = False
) -> Request:
    """A request whose model is a tiny encoder of transformers with random weights."""
    weights = save_encoder(folder / "encoder", kind)
    numbers = task_kind == "text_regression"
    dataset = text_dataset(folder / "dataset", pairs, numbers=numbers)
    data, training = Dataset(dataset), Training(strategy="full", seed=0)
    task = Task.parse({"kind": task_kind, "max_length": 16}, "task")
    backbone = Backbone.parse(
        {"family": "transformers", "weights": str(weights), "pooling": pooling}, "backbone"
    )
    job = extend.load("tasks", task.kind, "task.kind").make(task, data.labels)
    job.learn(data.split("train"))
    trained = Trained(
        build_network(job, backbone, training, weights), "transformers", data.labels, HISTORY, TEMPERATURE
    )
    sections = {"task": task, "backbone": backbone, "training": training, "compute": COMPUTE}
    plain = {name: section.plain() for name, section in sections.items()}
    write_model(folder / "model", trained, plain, data.content_sha256, dataset)
    return Request(PLAIN, "onnx", dataset, folder / "out", model=folder / "model")


def image_request(
    folder: Path, backbone: dict[str, Any], size: int, channels: int, rows: int = 100
) -> Request:
    """A request whose model is an image network with random weights."""
    task = Task.parse({"kind": "image_classification", "size": size, "channels": channels}, "task")
    dataset = image_dataset(folder / "dataset", rows)
    untrained_model(folder / "model", dataset, task, Backbone.parse(backbone, "backbone"))
    return Request(PLAIN, "onnx", dataset, folder / "out", model=folder / "model")


def answers_without(absent: set[str], folder: Path, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """What the folder's `use_me.py` answers in a process that cannot import the packages `absent`."""
    given = [{"bytes": row.hex()} if isinstance(row, bytes) else row for row in rows]
    code = _WITHOUT.format(absent=sorted(absent), folder=str(folder))
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", code],
        cwd=folder,
        input=json.dumps(given),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers
