"""Prototypes on frozen features, and training on so many examples of each class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from retrainer.errors import UserError
from retrainer.export.description import Exported, require_exportable
from retrainer.formats.dataset import Dataset
from retrainer.formats.model_files import CARD
from retrainer.no_effect import without_effect
from retrainer.predict import Predictor
from retrainer.settings import Backbone, Task, Training
from retrainer.tasks import make_task
from retrainer.tasks._heads import PrototypeHead
from retrainer.training._examples import examples
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from tests.stripes import COMPUTE, KINDS, made, table

LABELS = {"labels": "strings"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made(tmp_path_factory.mktemp("stripes"))


def settings(**training: Any) -> Settings:
    task = Task.parse(
        {"kind": "image_classification", "size": 8, "channels": 1, "head": "prototypes"}, "task"
    )
    backbone = Backbone.parse({"family": "mlp", "hidden": [16]}, "backbone")
    plan = Training.parse({"strategy": "frozen", **training}, "training")
    return Settings(task, backbone, plan, COMPUTE)


def test_the_head_is_the_mean_of_normalised_features_and_the_nearest_answers() -> None:
    draws = np.random.default_rng(0)
    features = draws.normal(3, 1, (40, 6)).astype(np.float32)
    classes = draws.integers(0, 3, 40)
    features[np.arange(40), classes] += 4
    head = PrototypeHead(6, 4)
    head.learn(torch.from_numpy(features), torch.from_numpy(classes))
    middle = np.mean([features[classes == k].mean(0) for k in range(3)], axis=0)
    unit = (features - middle) / np.linalg.norm(features - middle, axis=1, keepdims=True)
    means = np.stack([unit[classes == k].mean(0) for k in range(3)])
    np.testing.assert_allclose(head.prototypes[:3].numpy(), means, atol=1e-6)
    logits = head(torch.from_numpy(features)).numpy()
    apart = ((unit[:, None] - means) ** 2).sum(2)
    np.testing.assert_allclose(logits[:, :3] / -10, apart, atol=1e-5)
    assert (logits.argmax(1) == apart.argmin(1)).all()
    # Never the class without an example, not even far from all others.
    far = head.middle + 10 * torch.eye(6)
    assert 3 not in head(torch.cat([far, -far])).argmax(1)


def test_examples_are_drawn_by_the_seed_and_nested() -> None:
    train = table(KINDS, 90, 0)
    plans = [Training(examples_per_class=n, seed=seed) for n, seed in ((2, 0), (5, 0), (2, 1))]
    few, more, other = (examples(train, LABELS, plan) for plan in plans)
    for rows, count in ((few, 2), (more, 5), (other, 2)):
        named = [labels[0] for labels in rows["labels"].to_pylist()]
        assert {kind: named.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, count)
    ids = [set(rows["id"].to_pylist()) for rows in (few, more, other)]
    assert ids[0] < ids[1] and ids[0] != ids[2]
    assert examples(train, LABELS, Training()) is train
    with pytest.raises(
        UserError, match="examples_per_class counts rows of a class, and this task's rows have none"
    ):
        examples(pa.table({"text": ["a"]}), {"target_text": "string"}, plans[0])


def test_a_model_of_prototypes_is_trained_calibrated_saved_and_answers(
    pair: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, start = pair
    inputs = Inputs(data, settings(examples_per_class=5), start)
    with caplog.at_level("INFO"):
        told = train_model(inputs, tmp_path / "model")
    assert "learning from 15 of 90 training rows: 5 of each class" in caplog.text
    assert told["model_sha256"] == train_model(inputs, tmp_path / "again")["model_sha256"]
    history = json.loads((tmp_path / "model/history.json").read_text())
    assert len(history) == 1 and {"validation_loss", "validation_accuracy", "train_loss"} < history[0].keys()
    assert "5 of each class, the others unused" in (tmp_path / "model" / CARD).read_text()
    predictor, test = Predictor.load(tmp_path / "model"), Dataset(data).split("test")
    head = predictor.network.head
    assert isinstance(head, PrototypeHead)
    # The body is the start's, and the answer the nearest prototype of its features.
    features = Predictor.load(start).features(test)
    np.testing.assert_allclose(predictor.features(test), features, atol=1e-5)
    nearest = head(torch.from_numpy(features)).argmax(1).tolist()
    decided = predictor.predict(test)["label"].to_pylist()
    assert decided == [predictor.labels[place] for place in nearest]
    right = [[label] == true for label, true in zip(decided, test["labels"].to_pylist(), strict=True)]
    assert np.mean(right) > 0.8


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"strategy": "full"}, r"training\.strategy: task\.head: prototypes is the mean .*set frozen"),
        ({"cached_views": 2}, r"training\.cached_views: task\.head: prototypes .*leave it out"),
        ({"label_smoothing": 0.1}, r"training\.label_smoothing needs"),
    ],
)
def test_what_prototypes_have_no_use_for_is_refused(
    pair: tuple[Path, Path], tmp_path: Path, training: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        train_model(Inputs(pair[0], settings(**training), pair[1]), tmp_path / "model")


def test_several_classes_a_row_and_layouts_of_linear_heads_are_refused() -> None:
    with pytest.raises(UserError, match="prototypes gives a row the nearest class"):
        make_task(
            Task.parse({"kind": "text_classification", "head": "prototypes", "multi_label": True}, "task")
        )
    task = make_task(settings().task, ("a", "b"))
    about = type("Network", (), {"description": type("Body", (), {"preprocessing": {"kind": "pixels"}})})
    predictor = type("Predictor", (), {"task": task, "network": about})
    model: Any = type("Model", (), {"predictor": predictor})
    with pytest.raises(UserError, match=r"FORMAT=timm: this layout ends in a linear layer"):
        require_exportable(Exported(model, "timm", "image_classification"), "timm")


def test_keys_without_effect_are_named() -> None:
    sections = {"task": settings().task, "training": Training(strategy="frozen", epochs=7)}
    (line,) = without_effect(sections, {"training": ["epochs"]})
    assert line.startswith("training.epochs has no effect: task.head: prototypes reads each row once")
