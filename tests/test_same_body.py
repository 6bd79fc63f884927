"""Models that differ in the head alone: the part below it reads the rows once, and nothing else changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from retrainer import predict
from retrainer.evaluation import opponents
from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.formats.dataset import write_dataset
from retrainer.formats.files import hash_files
from retrainer.gate.evidence import Anchor, Champion
from retrainer.models import transformers
from retrainer.predict import Predictor
from retrainer.same_body import same_body
from retrainer.settings import Backbone, Evaluation, Gate, Task, Training
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from tests.encoders import save_encoder
from tests.stripes import COMPUTE, KINDS, SIZES, table

CLASSES = "abc"
TEXTS = Task.parse({"kind": "text_classification", "max_length": 16}, "task")
IMAGES = Task.parse({"kind": "image_classification", "size": 32}, "task")
NUMBERS = Task.parse({"kind": "text_regression", "max_length": 16}, "task")


def texts(count: int, seed: int) -> pa.Table:
    """Of 1 to 12 words, of which one tells the class."""
    draw = np.random.default_rng(seed)
    rows = [[f"w{word}" for word in draw.integers(5, 36, draw.integers(0, 12))] for _ in range(count)]
    return pa.table(
        {
            "text": [" ".join([*row, f"w{number % 3}"]) for number, row in enumerate(rows)],
            "labels": pa.array([[CLASSES[number % 3]] for number in range(count)], pa.list_(pa.string())),
            "target": pa.array([float(number % 3) for number in range(count)]),
            "origin": [f"row {seed}-{number}" for number in range(count)],
        }
    )


def head_on(encoder: Path, dataset: Path, out: Path, task: Task = TEXTS, **changes: Any) -> Path:
    """A model directory: a head that was trained on the encoder as it is."""
    pooling = changes.pop("pooling", "auto")
    backbone = Backbone.parse(
        {"family": "transformers", "weights": str(encoder), "pooling": pooling}, "backbone"
    )
    training = Training.parse({"strategy": "frozen", "epochs": 2, "batch_size": 16} | changes, "training")
    train_model(Inputs(dataset, Settings(task, backbone, training, COMPUTE), encoder), out)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of texts and of images, and an encoder for each."""
    folder = tmp_path_factory.mktemp("same-body")
    for kind in ("bert", "vit"):
        save_encoder(folder / kind, kind)
    for name, other in (("texts", "target"), ("numbers", "labels")):
        splits = {split: texts(count, seed) for seed, (split, count) in enumerate(SIZES.items())}
        write_dataset(folder / name, {split: rows.drop_columns([other]) for split, rows in splits.items()})
    write_dataset(folder / "images", {name: table(KINDS, 20, seed) for seed, name in enumerate(SIZES)})
    return folder


CASES = {
    "mean": ("bert", "texts", TEXTS, {"pooling": "mean"}),
    "first token": ("bert", "texts", TEXTS, {"pooling": "cls"}),
    "images": ("vit", "images", IMAGES, {}),
    "numbers": ("bert", "numbers", NUMBERS, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_head_on_known_features_answers_to_the_bit(
    case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "_ROWS_AT_ONCE", 32)
    kind, data, task, options = CASES[case]
    model = head_on(folder / kind, folder / data, tmp_path / "model", task, **options)
    first, second = Predictor.load(model), Predictor.load(model)
    with torch.no_grad():
        second.network.head.weight.mul_(-2)
    rows = table(KINDS, 70, 9) if kind == "vit" else texts(70, 9)
    own, features = first.predict_and_features(rows)
    apart = second.predict(rows)
    assert same_body(second, first) and not apart.equals(own)
    passes: list[int] = []
    second.network.body.register_forward_hook(lambda *_: passes.append(1))
    assert second.predict(rows, features).equals(apart) and not passes


def test_another_body_is_no_same_one(folder: Path, tmp_path: Path) -> None:
    """By weights, by what is made of the tokens, by how rows are prepared, by the device, or not known."""
    model = head_on(folder / "bert", folder / "texts", tmp_path / "frozen")
    first = Predictor.load(model)
    whole = head_on(folder / "bert", folder / "texts", tmp_path / "full", strategy="full")
    pooled = head_on(folder / "bert", folder / "texts", tmp_path / "mean", pooling="mean")
    shorter = Task.parse({"kind": "text_classification", "max_length": 8}, "task")
    cut = head_on(folder / "bert", folder / "texts", tmp_path / "cut", shorter)
    assert same_body(first, Predictor.load(model))
    for other in (whole, pooled, cut):
        assert not same_body(first, Predictor.load(other)), other.name
        assert not same_body(Predictor.load(other), first), other.name
    unknown = Predictor(first.network, first.task, "cpu", "")
    assert not same_body(unknown, first) and not same_body(first, unknown)
    words = Predictor.load(model)
    words.network.description.assets = {"tokenizer.json": b"{}"}
    assert not same_body(first, words)


def held(version: str, model: Path) -> Champion:
    digest = json.loads((model / "manifest.json").read_text())["model_sha256"]
    return Champion(version, digest, model)


@pytest.mark.slow
def test_champion_and_anchor_cost_no_pass_and_the_report_is_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate, champion, anchor = (
        head_on(folder / "bert", folder / "texts", tmp_path / str(rate), learning_rate=rate)
        for rate in (1e-1, 1e-2, 1e-3)
    )
    request = Request(
        folder / "texts",
        candidate,
        tmp_path / "shared",
        Evaluation(resamples=100, explain=0),
        Gate(policy="not-worse", margin=0.2),
        COMPUTE,
        held("7", champion),
        anchor=Anchor("3", held("3", anchor)),
    )
    seen: list[int] = []
    pooled = transformers._first_token

    def counted(module: Any, batch: dict[str, Any]) -> Any:
        seen.append(len(batch["input_ids"]))
        return pooled(module, batch)

    monkeypatch.setattr(transformers, "_first_token", counted)
    report = evaluate_model(request)
    once = sum(seen)
    assert report["champion"]["compared"] and report["anchor"]["compared"]
    monkeypatch.setattr(opponents, "same_body", lambda *_: False)
    evaluate_model(replace(request, out=tmp_path / "apart"))
    assert hash_files(tmp_path / "shared") == hash_files(tmp_path / "apart")
    assert sum(seen) - once == once + 2 * SIZES["test"], "the champion's and the anchor's rows"
