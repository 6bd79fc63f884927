"""Small models for the tests of predictions: of texts and of images, in a directory that is no project."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrainer.batch_prediction.sections import Sections
from retrainer.formats.dataset import SCHEMA, write_dataset
from retrainer.formats.files import MANIFEST, hash_files, write_json
from retrainer.formats.row_keys import RowKeys, write_row_keys
from retrainer.settings import Backbone, Compute, Registry, Source, Task
from tests.registered import image_dataset, untrained_model
from tests.word_family import WORDS

# Settings of no project.
PLAIN = Sections(Source(), Compute(device="cpu"), Registry())
CLASSES = ("calm", "down", "up")


def sentences(count: int, seed: int = 0) -> list[str]:
    """Random words, one to eight of them."""
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS[1:], draw.integers(1, 9))) for _ in range(count)]


def rows_of(texts: list[str]) -> list[dict[str, Any]]:
    return [{"id": 100 + n, "text": text, "label": "x,y"} for n, text in enumerate(texts)]


def text_model(folder: Path, pairs: bool = False, multi_label: bool = False) -> Path:
    """A model directory in `folder`, of random weights."""
    texts = sentences(6)
    columns = {"text": pa.array(texts, SCHEMA["text"])}
    if pairs:
        columns["text_pair"] = pa.array(texts[::-1], SCHEMA["text_pair"])
    columns["labels"] = pa.array([[CLASSES[row % 3]] for row in range(6)], SCHEMA["labels"])
    write_dataset(folder / "dataset", {"train": pa.table(columns)})
    if pairs:
        keys = np.arange(1, 7, dtype=np.uint64)
        data = folder / "dataset"
        write_row_keys(data, {"train": RowKeys(keys, {"text": keys + 6, "text_pair": keys + 12})})
        manifest = json.loads((data / MANIFEST).read_text())
        write_json(data / MANIFEST, manifest | {"files": hash_files(data)})
    task = Task.parse({"kind": "text_classification", "multi_label": multi_label}, "task")
    return untrained_model(folder / "model", folder / "dataset", task, Backbone(family="tests.word_family"))


def image_model(folder: Path) -> Path:
    return untrained_model(folder / "model", image_dataset(folder / "dataset"))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
