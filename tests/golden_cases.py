"""Two datasets and fixed models on them, the same on every processor: weights and pixels come from numpy.

What a report says of them is kept in tests/golden/judgement-*.json, from before metrics and the gate knew any
task but classification.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from retrainer.formats.dataset import SCHEMA, write_dataset
from retrainer.formats.files import hash_files, write_json
from retrainer.formats.model import seal
from retrainer.formats.row_keys import write_row_keys

SIDE = 8
CLASSES = ("ash", "birch", "cedar", "oak")
SIZES = {"train": 80, "validation": 8, "test": 240}
POLICIES = ("better", "not-worse")
METRICS = ("accuracy", "macro_f1", "micro_f1", "log_loss")
CHAMPIONS = ("none", "worse", "better", "other-labels", "trained-on-test-rows")


@dataclass(frozen=True)
class World:
    """A dataset, the model that is judged, and the champions that it may meet."""

    dataset: Path
    model: Path
    champions: dict[str, Path]


def cases() -> list[tuple[str, str, str]]:
    """(champion, metric, policy): each champion by each metric, the policies in turn."""
    pairs = itertools.product(enumerate(CHAMPIONS), enumerate(METRICS))
    return [(champion, metric, POLICIES[(i + j) % 2]) for (i, champion), (j, metric) in pairs]


def world(folder: Path, several: bool) -> World:
    splits = {name: _rows(count, seed, several) for seed, (name, count) in enumerate(SIZES.items())}
    keys = {name: [_key(name, row) for row in range(count)] for name, count in SIZES.items()}
    data = folder / "dataset"
    digest = write_dataset(data, splits)["content_sha256"]
    write_row_keys(data, keys)
    manifest = json.loads((data / "manifest.json").read_text())
    write_json(data / "manifest.json", manifest | {"files": hash_files(data)})
    test = keys["test"]
    half_known = {"train": test[:90], "test": [*test[90:170], _key("gone", 0)]}
    make = {
        "worse": (CLASSES, 2.6, 11, {"train": keys["train"], "test": test}),
        "better": (CLASSES, 0.3, 12, None),
        "other-labels": (("ash", "birch", "elm") if not several else CLASSES[:3], 0.5, 13, None),
        "trained-on-test-rows": (CLASSES, 2.6, 14, half_known),
    }
    champions = {
        name: _model(folder / name, "c" * 64, several, labels, noise, seed, known)
        for name, (labels, noise, seed, known) in make.items()
    }
    model = _model(folder / "model", digest, several, CLASSES, 1.0, 10, {"train": keys["train"]})
    return World(data, model, champions)


def _key(split: str, row: int) -> bytes:
    return hashlib.sha256(f"{split} {row}".encode()).digest()


def _rows(count: int, seed: int, several: bool) -> pa.Table:
    """Images with a bright band for each of their classes; the first class is the commonest by far."""
    draw = np.random.default_rng(seed)
    shares = draw.choice(len(CLASSES), size=count, p=[0.5, 0.25, 0.15, 0.1])
    sets = [sorted({int(k), *(draw.integers(0, 4, draw.integers(0, 3)) if several else ())}) for k in shares]
    images = []
    for members in sets:
        pixels = draw.integers(40, 216, (SIDE, SIDE))
        for k in members:
            pixels[2 * k : 2 * k + 2] += 40 if several else 22
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": None})
    regions = [json.dumps({"region": ("north", "south", "east")[n % 5 % 3]}) for n in range(count)]
    return pa.table(
        {
            "image": pa.array(images, SCHEMA["image"]),
            "labels": pa.array([[CLASSES[k] for k in members] for members in sets], SCHEMA["labels"]),
            "id": [f"{seed}-{n}" for n in range(count)],
            "origin": [f"row {n}" for n in range(count)],
            "metadata": regions,
        }
    )


def _model(
    path: Path,
    dataset_sha256: str,
    several: bool,
    labels: tuple[str, ...],
    noise: float,
    seed: int,
    row_keys: dict[str, list[bytes]] | None,
) -> Path:
    """A network that looks for each class's band, as badly as `noise` lets it."""
    from safetensors.numpy import save_file

    draw = np.random.default_rng(seed)
    bands: np.ndarray = np.full((4, SIDE, SIDE), -0.05)
    for k in range(4):
        bands[k, 2 * k : 2 * k + 2] = 0.15
    seen = bands[[CLASSES.index(label) if label in CLASSES else 3 for label in labels]].reshape(-1, SIDE**2)
    weight = seen * 3 + draw.normal(0, 0.06 * noise, seen.shape)
    size = len(labels)
    tensors = {
        "body.0.weight": weight,
        "body.0.bias": np.full(size, 2.0),
        "head.weight": np.eye(size),
        "head.bias": np.full(size, -3.2 if several else 0.0),
    }
    if not several:
        tensors["head.bias"][: min(size, 4)] += np.array([0.6, 0.2, 0.0, -0.2])[:size]
    path.mkdir(parents=True)
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, path / "model.safetensors")
    description = {
        "family": "mlp",
        "config": {"inputs": SIDE**2, "hidden": [size]},
        "preprocessing": {
            "kind": "pixels",
            "size": [SIDE, SIDE],
            "channels": 1,
            "mean": [0.5],
            "std": [0.25],
        },
        "labels": list(labels),
        "assets": [],
        "temperature": 1.25,
    }
    write_json(path / "model.json", description)
    if row_keys is not None:
        write_row_keys(path, row_keys)
    task: dict[str, Any] = {
        "kind": "image_classification",
        "multi_label": several,
        "size": SIDE,
        "channels": 1,
    }
    seal(path, {"task": task}, dataset_sha256)
    return path
