"""Speakers through every step: from folders to a report, and to a model that knows whom it never heard."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks._runs import run_step
from components.evaluate import evaluate
from components.ingest import ingest
from components.preprocess import preprocess
from components.train import train
from retrainer.__main__ import main
from retrainer.champion import load_champion
from retrainer.errors import UserError
from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.formats.columns import ENCODED
from retrainer.formats.dataset import Dataset, write_dataset
from retrainer.predict import Predictor
from retrainer.registry.bundle import raw_frame, save_bundle
from retrainer.resolve import resolve
from retrainer.settings import Backbone, Evaluation, Gate, Task, Training
from retrainer.tasks import make_task
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from tests.small_datasets import png
from tests.small_networks import PLAIN
from tests.synthetic_voices import saved, spoken

pytestmark = [
    pytest.mark.slow,  # a real MLflow database, and every step
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]

RECIPE = """
registry: {name: voices}
source: {kind: audio_folder, path: data}
split: {validation: 0.25}
task: {kind: speaker_verification, sampling_rate: 8000, crop_seconds: 0.35, false_accept_rate: 0.05}
backbone: {family: speech_conv, width: 32, blocks: 1, mels: 24, normalise: loudness, pooling: mean-max}
training: {strategy: scratch, epochs: 10, batch_size: 16, learning_rate: 5e-3, keep: last}
compute: {device: cpu, dtype: float32, threads: 1}
"""


def record(folder: Path, speakers: range, count: int) -> None:
    for speaker in speakers:
        (folder / f"voice {speaker}").mkdir(parents=True)
        for number in range(count):
            sound = saved(spoken(100 * speaker + number, 0.4, word=speaker))
            (folder / f"voice {speaker}" / f"{number}.wav").write_bytes(sound)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("voices")
    record(root / "data/train", range(28), 6)
    record(root / "data/test", range(28, 40), 5)
    (root / "recipes").mkdir()
    (root / "recipes/voices.yaml").write_text(RECIPE)
    (root / "params.yaml").write_text("task: {kind: speaker_verification}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        patch.chdir(root)
        settled = resolve("voices", [], root, root)
        for step in (ingest, preprocess, train, evaluate):
            run_step(step, settled, root)
    return root


def test_no_identity_is_in_two_splits(made: Path) -> None:
    data = Dataset(made / "dataset")
    groups = {name: set(data.split(name)["group"].to_pylist()) for name in ("train", "validation", "test")}
    assert len(groups["test"]) == 12 and len(groups["train"]) > 10 and len(groups["validation"]) > 2
    assert not groups["train"] & groups["validation"] and data.labels == ()


def test_the_report_judges_pairs_beside_baselines(made: Path) -> None:
    report = json.loads((made / "report/metrics.json").read_text())
    assert report["headline"] == "equal_error_rate"
    rates = {name: one["metrics"]["equal_error_rate"]["value"] for name, one in report["baselines"].items()}
    assert set(rates) == {"all_alike", "mean_features", "linear_discriminants"}
    assert report["metrics"]["equal_error_rate"]["value"] < 0.3 < rates["all_alike"] == 0.5
    found = report["details"]
    assert found["pairs"] == {"genuine": 120, "impostors": 1650, "identities": 12, "sessions": False}
    assert sum(found["scores"]["genuine"]) == 120 and -1 < found["threshold"] < 1
    assert {one["kind"] for one in found["worst"]} == {"genuine", "impostors"}
    html = (made / "report/report.html").read_text()
    for title in ("Scores and threshold", "By identity", "Hardest pairs"):
        assert title in html
    assert "data:audio/wav" in html


def test_the_model_keeps_a_threshold_and_nothing_of_the_training_identities(made: Path) -> None:
    predictor = Predictor.load(made / "model")
    assert set(predictor.network.head.state_dict()) == {"projection.weight", "threshold"}
    for file in (made / "model").iterdir():
        assert b"voice 3" not in file.read_bytes(), file.name


def test_whoever_has_a_folder_is_recognised_and_a_stranger_is_not(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    gallery, new = tmp_path / "gallery", tmp_path / "new"
    new.mkdir()
    for speaker in (30, 31, 32):
        (gallery / f"voice {speaker}").mkdir(parents=True)
        for number in range(3):
            sound = saved(spoken(9000 + 10 * speaker + number, 0.4, word=speaker))
            (gallery / f"voice {speaker}" / f"{number}.wav").write_bytes(sound)
        (new / f"{speaker}.wav").write_bytes(saved(spoken(8000 + speaker, 0.4, word=speaker)))
    out = tmp_path / "answers.parquet"
    words = ["predict", "--recipe", "voices", "--model", str(made / "model"), "--input", str(new)]
    assert main([*words, "--output", str(out), "--gallery", str(gallery)]) == 0
    rows = {Path(one["origin"]).stem: one for one in pq.read_table(out).to_pylist()}
    right = [name for name, one in rows.items() if one["prediction"] == f"voice {name}"]
    assert len(right) >= 2 and all(
        one["prediction"] in (f"voice {name}", "unknown") for name, one in rows.items()
    )
    assert all(one["score"] >= one["threshold"] for name, one in rows.items() if name in right)
    assert main([*words, "--output", str(tmp_path / "plain.csv")]) == 0  # without a gallery: embeddings alone
    knows = load_champion("voices", model=made / "model", gallery=gallery)
    answers = knows.predict([str(new / f"{name}.wav") for name in rows])
    assert [one["prediction"] for one in answers] == [one["prediction"] for one in rows.values()]


def test_a_served_model_knows_whom_the_environment_names(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.pyfunc import load_model

    test = Dataset(made / "dataset").split("test")
    sample = test.select(["audio"]).slice(0, 6)
    save_bundle(made / "model", sample, tmp_path / "bundle", "m-0", "run")
    monkeypatch.setattr("sys.path", list(sys.path))
    served = load_model(str(tmp_path / "bundle"), suppress_warnings=True)
    answers = json.loads(served.predict(raw_frame(sample)).to_json(orient="records"))
    assert [row["identity"] for row in answers] == [None] * 6
    assert len(answers[0]["embedding"]) == Predictor.load(made / "model").network.description.width
    monkeypatch.setenv("RETRAINER_GALLERY", str(made / "data/test"))
    served = load_model(str(tmp_path / "bundle"), suppress_warnings=True)
    answers = json.loads(served.predict(raw_frame(sample)).to_json(orient="records"))
    names = test["group"].to_pylist()[:6]
    assert sum(row["identity"] == name for row, name in zip(answers, names, strict=True)) >= 4


def test_a_model_that_recognises_nobody_takes_no_gallery() -> None:
    predictor = Predictor.__new__(Predictor)
    predictor.task = make_task(Task(kind="speech_recognition"))
    with pytest.raises(UserError, match=r"GALLERY=there: this model's task recognises nobody"):
        predictor.enrol(Path("there"))


# --- pictures, and the given weights --------------------------------------------------------------------

PICTURES = Task(kind="image_verification", size=8, channels=1, false_accept_rate=0.1)
MLP = {"family": "mlp", "hidden": [16]}


def pictures(identities: range, count: int = 5) -> pa.Table:
    """Each identity is a pattern of its own under noise."""
    rows, names = [], []
    for one in identities:
        pattern = np.random.default_rng(one).uniform(40, 200, (8, 8))
        for number in range(count):
            noise = np.random.default_rng((one, number)).normal(0, 25, (8, 8))
            rows.append({"bytes": png((pattern + noise).clip(0, 255).astype(np.uint8)), "path": None})
            names.append(f"thing {one}")
    origins = [f"a.csv:row {row}" for row in range(len(rows))]
    return pa.table({"image": pa.array(rows, ENCODED), "group": names, "origin": origins})


def trained(root: Path, name: str, weights: Path | None, **training: Any) -> Path:
    backbone = Backbone.parse(MLP | ({"weights": str(weights)} if weights else {}), "backbone")
    settings = Settings(PICTURES, backbone, Training.parse(training, "training"), PLAIN)
    train_model(Inputs(root / "dataset", settings, weights), root / name)
    return root / name


def test_given_weights_stand_untouched_beside_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a rate that moves nothing, the model's figures are those of its start, but for the threshold."""
    monkeypatch.chdir(tmp_path)
    splits = {
        "train": pictures(range(20)),
        "validation": pictures(range(20, 30)),
        "test": pictures(range(30, 45)),
    }
    write_dataset(tmp_path / "dataset", splits)
    start = trained(tmp_path, "start", None, strategy="scratch", epochs=12, learning_rate=1e-2)
    still = {"strategy": "full", "learning_rate": 1e-12, "backbone_learning_rate": 1e-12, "epochs": 1}
    model = trained(tmp_path, "model", start, **still)
    few = Evaluation(resamples=200)
    report = evaluate_model(Request(tmp_path / "dataset", model, tmp_path / "report", few, Gate(), PLAIN))
    given = report["baselines"]["given_weights"]
    assert given["title"] == "the given weights, untouched" and given["difference"] == 0
    assert given["metrics"]["equal_error_rate"] == report["metrics"]["equal_error_rate"]
    assert given["metrics"]["false_reject_rate"]["value"] < 1  # it has a threshold, too
    assert set(report["baselines"]) == {"all_alike", "mean_features", "linear_discriminants", "given_weights"}
    assert report["baselines"]["mean_features"]["title"] == "pixels"
    assert "data:image" in (tmp_path / "report/report.html").read_text()
