"""Three kinds of small pictures, told apart by their stripes: a dataset, and a model trained on it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.formats.dataset import IMAGE, write_dataset
from retrainer.gate.evidence import Champion
from retrainer.settings import Backbone, Compute, Evaluation, Gate, Task, Training
from retrainer.training.compute import resolve_compute
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model

SIDE = 8
COMPUTE = resolve_compute(Compute(device="cpu", dtype="float32", threads=1))
QUICK = Evaluation(resamples=100, explain=0)
KINDS = ("across", "down", "plain")
SIZES = {"train": 90, "validation": 15, "test": 60}


def picture(kind: str, draw: np.random.Generator) -> dict[str, Any]:
    wave = np.tile(np.where(np.arange(SIDE) // 2 % 2, 210.0, 40.0), (SIDE, 1))
    pixels = {"across": wave.T, "down": wave, "plain": np.full((SIDE, SIDE), 120.0)}[kind]
    noisy = (pixels + draw.normal(0, 60, pixels.shape)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def table(kinds: tuple[str, ...], count: int, seed: int, several: bool = False) -> pa.Table:
    draw = np.random.default_rng(seed)
    chosen = [kinds[n % len(kinds)] for n in range(count)]
    labels = (
        [[kind, "striped"] if kind != "plain" else [] for kind in chosen]
        if several
        else [[k] for k in chosen]
    )
    return pa.table(
        {
            "image": pa.array([picture(kind, draw) for kind in chosen], IMAGE),
            "labels": pa.array(labels, pa.list_(pa.string())),
            "id": [f"row-{seed}-{n}" for n in range(count)],
            "origin": [f"folder/file.csv:row {n}" for n in range(count)],
        }
    )


def made(
    folder: Path, kinds: tuple[str, ...] = KINDS, several: bool = False, epochs: int = 6
) -> tuple[Path, Path]:
    """A dataset and a model trained on it."""
    data, model = folder / "dataset", folder / "model"
    splits = {name: table(kinds, count, seed, several) for seed, (name, count) in enumerate(SIZES.items())}
    write_dataset(data, splits)
    task = Task(kind="image_classification", multi_label=several, size=SIDE, channels=1)
    backbone = Backbone(family="mlp", hidden=[16])
    training = Training(strategy="scratch", epochs=epochs, learning_rate=1e-2, batch_size=16)
    train_model(Inputs(data, Settings(task, backbone, training, COMPUTE)), model)
    return data, model


def judged(
    pair: tuple[Path, Path], out: Path, champion: Path | None, gate: Gate | None = None
) -> dict[str, Any]:
    """metrics.json of the dataset and model of `pair`, against a champion, which is version 7."""
    held = None
    if champion is not None:
        digest = json.loads((champion / "manifest.json").read_text())["model_sha256"]
        held = Champion("7", digest, champion)
    return evaluate_model(Request(*pair, out, QUICK, gate or Gate(), COMPUTE, held))
