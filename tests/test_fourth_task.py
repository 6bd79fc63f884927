"""A task of one file (`tests/rating_task.py`) goes through every step; no other code knows of it."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from PIL import Image

from retrainer.data.ingest import ingest
from retrainer.data.preprocess import preprocess
from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.formats.model_files import read_model
from retrainer.predict import Predictor
from retrainer.resolve import source_columns
from retrainer.settings import Backbone, Checks, Compute, Source, Split, Task, Training
from retrainer.training.compute import resolve_compute
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from tests import rating_task
from tests.conftest import ROOT
from tests.project import make_project, run

TASK = Task(kind="tests.rating_task", size=8)
COMPUTE = resolve_compute(Compute(device="cpu", dtype="float32", threads=1))


def draw_pictures(folder: Path, rows: int) -> Path:
    """Noisy pictures; each has as many stars as it is bright, as a CSV says in the column `grade`."""
    draws = np.random.default_rng(0)
    folder.mkdir(parents=True)
    with (folder / "pictures.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "grade"])
        for number in range(rows):
            stars = int(draws.integers(1, 6))
            pixels = draws.normal(45 * stars, 12, (8, 8)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            writer.writerow([f"{number}.png", stars])
    return folder / "pictures.csv"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rating")
    path = draw_pictures(folder / "pictures", rows=240)
    ingest(Source(path=str(path), stars="grade", columns=source_columns(TASK)), folder / "raw")
    checks = Checks(near_duplicates="off")  # noise about a brightness is alike
    preprocess(folder / "raw", folder / "dataset", Split(), checks, TASK, folder / "findings")
    return folder / "dataset"


def trained(dataset: Path, out: Path, **training: object) -> Path:
    settings = Training(strategy="scratch", epochs=8, learning_rate=1e-2, batch_size=16, **training)
    backbone = Backbone(family="mlp", hidden=[16])
    train_model(Inputs(dataset, Settings(TASK, backbone, settings, COMPUTE)), out)
    return out


def test_a_task_of_one_file_is_learnt_and_predicts_what_it_says(dataset: Path, tmp_path: Path) -> None:
    assert Dataset(dataset).manifest["types"] == {"stars": "number"}
    model = trained(dataset, tmp_path / "model")
    about, history = read_model(model), json.loads((model / "history.json").read_text())
    assert about["labels"] == [] and about["temperature"] == 1.0
    assert history[0].keys() >= {"validation_loss", "validation_error"}
    test = Dataset(dataset).split("test")
    predictions = Predictor.load(model).predict(test)
    assert predictions.schema == pa.schema([("prediction", pa.float64())])
    error = rating_task.value(rating_task.statistics(predictions, test).sum(axis=0))
    always = rating_task.Rating(rating_task.Options()).baselines(test, test, None).found[0].predictions  # type: ignore[arg-type]
    assert error < 0.5 * rating_task.value(rating_task.statistics(always, test).sum(axis=0))


@pytest.mark.parametrize(
    "setting",
    [{"label_smoothing": 0.1}, {"balance": "weights"}, {"mixup": 0.2}, {"cutmix": 1.0}, {"start_size": 0.5}],
    ids=lambda setting: next(iter(setting)),
)
def test_a_setting_that_needs_an_ability_is_refused_by_name(
    dataset: Path, tmp_path: Path, setting: dict[str, object]
) -> None:
    with pytest.raises(
        UserError, match=rf"training\.{next(iter(setting))} needs .*which this task does not have"
    ):
        trained(dataset, tmp_path / "model", **setting)


def test_nothing_outside_its_file_knows_of_it() -> None:
    for folder in ("retrainer", "components", "pipelines"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(r"\bstars\b|rating_task", path.read_text(encoding="utf-8")), path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_judged_registered_and_served(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    shutil.copy(rating_task.__file__, project / "plugins" / "rating.py")
    draw_pictures(project / "data" / "pictures", rows=200)
    recipe = {
        "source": {"path": "data/pictures/pictures.csv", "stars": "grade"},
        "checks": {"near_duplicates": "off"},
        "task": {"kind": "plugins.rating", "size": 8},
        "backbone": {"family": "mlp", "hidden": [16]},
        "training": {"strategy": "scratch", "epochs": 8, "learning_rate": 1e-2, "batch_size": 16},
        "compute": {"device": "cpu", "threads": 1},
        "registry": {"name": "stars"},
    }
    (project / "recipes" / "stars.yaml").write_text(yaml.safe_dump(recipe))
    assert "smoke: stars passes every step" in run(project, "smoke", "--recipe", "stars")
