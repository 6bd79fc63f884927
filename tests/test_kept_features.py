"""Features of the training rows, kept by train for the evaluation that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.formats.dataset import Dataset, write_dataset
from retrainer.predict import Predictor
from retrainer.services.checkpoint_store import CheckpointPlace
from retrainer.services.kept_features import FOLDER, KEPT, KeptFeatures, features_of
from retrainer.settings import Backbone, Evaluation, Gate, Task, Training
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import Session, train_model
from tests.small_datasets import reviews_table
from tests.small_networks import PLAIN

pytestmark = pytest.mark.usefixtures("torch_settings_restored")

TASK = Task(kind="text_classification", max_length=16)
FROZEN = Training(strategy="frozen", epochs=2, learning_rate=1e-2, batch_size=16)
COUNTS = {"train": 90, "validation": 40, "test": 60}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheckpointPlace:
    monkeypatch.setenv("RETRAINER_CHECKPOINTS", str(tmp_path / "checkpoints"))
    return CheckpointPlace(str(tmp_path / "checkpoints"), 300.0)


def trained(tmp_path: Path, bert: Path, training: Training, session: Session) -> str:
    rows = tmp_path / "rows"
    if not rows.exists():
        write_dataset(rows, {name: reviews_table(count, name) for name, count in COUNTS.items()})
    backbone = Backbone(family="transformers", weights=str(bert))
    inputs = Inputs(rows, Settings(TASK, backbone, training, PLAIN), bert)
    sha256: str = train_model(inputs, tmp_path / "model", session)["model_sha256"]
    return sha256


def test_evaluate_uses_them_and_reports_the_same(
    bert: Path, place: CheckpointPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptFeatures(place.directory)
    sha256 = trained(tmp_path, bert, FROZEN, Session(on_features=kept.take))
    kept.keep(sha256)
    features = features_of(sha256)
    computed = Predictor.load(tmp_path / "model").features(Dataset(tmp_path / "rows").split("train"))
    assert features is not None and np.allclose(features, computed, atol=1e-5)

    def judged(**more: Any) -> dict[str, Any]:
        settings = Evaluation(resamples=100, explain=4, baseline=False)
        rows, model, out = (tmp_path / name for name in ("rows", "model", "report"))
        report = evaluate_model(Request(rows, model, out, settings, Gate(), PLAIN, **more))
        return {name: report[name] for name in ("membership", "details", "metrics", "gate")}

    anew = judged()
    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "features", lambda *_: pytest.fail("the body ran on the training rows"))
        assert judged(train_features=features) == anew
    assert judged(train_features=features[:-1]) == anew  # of other rows: not used


def test_a_body_that_trains_or_rows_that_are_augmented_keep_none(
    bert: Path, place: CheckpointPlace, tmp_path: Path
) -> None:
    kept = KeptFeatures(place.directory)
    moving = FROZEN.model_copy(update={"strategy": "head-then-full", "head_epochs": 1})
    kept.keep(trained(tmp_path, bert, moving, Session(on_features=kept.take)))
    assert not Path(place.root).exists()


def test_only_a_whole_file_of_the_very_model_is_read(place: CheckpointPlace) -> None:
    models = [digit * 64 for digit in "abc"]
    for number, model in enumerate(models):
        kept = KeptFeatures(place.directory)
        kept.take(np.full((3, 2), number, np.float32))
        kept.keep(model)
    files = sorted((Path(place.root) / FOLDER).iterdir())
    assert len(files) == KEPT and features_of(models[0]) is None
    found = features_of(models[2])
    assert found is not None and found.tolist() == [[2, 2]] * 3
    for file in files:
        file.write_bytes(file.read_bytes()[:-1] + b"\1")
    assert features_of(models[2]) is None


def test_without_a_directory_for_checkpoints_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRAINER_CHECKPOINTS", "s3://bucket/checkpoints")
    kept = KeptFeatures(CheckpointPlace("s3://bucket/checkpoints", 300.0).directory)
    kept.take(np.zeros((3, 2), np.float32))
    kept.keep("a" * 64)
    assert features_of("a" * 64) is None
