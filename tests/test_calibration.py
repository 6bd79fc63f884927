"""One temperature from the validation rows: fitted by train, kept in the model, used by all who ask it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.optimize import minimize_scalar

from retrainer.errors import UserError
from retrainer.formats.dataset import write_dataset
from retrainer.formats.files import digest_of, hash_files
from retrainer.formats.model_files import read_model
from retrainer.formats.row_keys import read_row_keys, write_row_keys
from retrainer.metrics import calibration_error, log_loss
from retrainer.metrics._classes import classes
from retrainer.metrics._protocol import Metric
from retrainer.predict import Predictor
from retrainer.settings import Backbone, Task, Training
from retrainer.tasks._class_details import calibration_of, uncalibrated
from retrainer.training.calibration import fit_temperature
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model
from retrainer.uncalibrated import FEWEST_ROWS
from tests.predictions import Tables, answered
from tests.stripes import COMPUTE, KINDS, SIDE, made, table
from tests.stripes import SIZES as SMALL

TRUE_TEMPERATURE = 3.0


def rows_of(several: bool, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits three times too large for the targets, which are drawn from the honest probabilities."""
    draw = np.random.default_rng(seed)
    honest = draw.normal(0, 2, (count, 4))
    if several:
        targets = (draw.random((count, 4)) < 1 / (1 + np.exp(-honest))).astype(np.float32)
    else:
        targets = (honest + draw.gumbel(size=honest.shape)).argmax(axis=1)
    return (TRUE_TEMPERATURE * honest).astype(np.float32), targets


def loss(temperature: float, logits: np.ndarray, targets: np.ndarray) -> float:
    scaled = logits.astype(np.float64) / temperature
    if targets.ndim == 2:
        return float((np.logaddexp(0, scaled) - targets * scaled).mean())
    shifted = scaled - scaled.max(axis=1, keepdims=True)
    chosen = shifted[np.arange(len(shifted)), targets]
    return float((np.log(np.exp(shifted).sum(axis=1)) - chosen).mean())


@pytest.mark.parametrize("several", [False, True], ids=["single", "multi"])
def test_the_fitted_temperature_has_the_least_loss(several: bool) -> None:
    logits, targets = rows_of(several, 2000, 0)
    found = fit_temperature(logits, targets, several)
    best = minimize_scalar(loss, bounds=(0.1, 20), args=(logits, targets), method="bounded")
    assert found == pytest.approx(best.x, rel=1e-3)
    assert found == pytest.approx(TRUE_TEMPERATURE, rel=0.15)
    fresh = rows_of(several, 2000, 1)
    assert loss(found, *fresh) < loss(1.0, *fresh) - 0.05


def test_all_rows_right_or_all_wrong_leave_the_temperature_at_one() -> None:
    logits = np.eye(3, dtype=np.float32).repeat(40, axis=0)
    right, wrong = logits.argmax(axis=1), logits.argmin(axis=1)
    assert fit_temperature(logits, right, False) == fit_temperature(logits, wrong, False) == 1.0


@pytest.fixture(scope="module")
def stubborn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of noisy pictures, a third of them under a wrong label: whoever trains long is too sure."""
    folder, draw = tmp_path_factory.mktemp("stubborn"), np.random.default_rng(0)
    splits = {}
    for seed, (name, count) in enumerate({"train": 90, "validation": 120, "test": 300}.items()):
        rows = table(KINDS, count, seed)
        labels = [
            [kind] if draw.random() > 0.35 else [str(draw.choice(KINDS))]
            for (kind,) in rows["labels"].to_pylist()
        ]
        splits[name] = rows.set_column(1, "labels", pa.array(labels, pa.list_(pa.string())))
    write_dataset(folder / "dataset", splits)
    return folder / "dataset"


def trained(dataset: Path, out: Path, **training: Any) -> dict[str, Any]:
    task = Task(kind="image_classification", size=SIDE, channels=1)
    chosen = {"strategy": "scratch", "epochs": 40, "learning_rate": 1e-2, "batch_size": 16, "keep": "last"}
    settings = Training(**(chosen | training))
    backbone = Backbone(family="mlp", hidden=[16])
    return train_model(Inputs(dataset, Settings(task, backbone, settings, COMPUTE)), out)


def value(metric: Metric, tables: Tables) -> float:
    return float(metric.value(metric.statistics(*tables).sum(axis=0)))


def test_an_overconfident_model_becomes_honest_and_decides_the_same(stubborn: Path, tmp_path: Path) -> None:
    made = trained(stubborn, tmp_path / "model")
    trained(stubborn, tmp_path / "raw", calibrate=False)
    assert made["temperature"] > 1.2
    assert read_model(tmp_path / "model")["temperature"] == made["temperature"]
    assert read_model(tmp_path / "raw")["temperature"] == 1.0
    test = pq.read_table(stubborn / "test-00000.parquet")
    after, before = (Predictor.load(tmp_path / name).probabilities(test) for name in ("model", "raw"))
    assert np.array_equal(after.argmax(axis=1), before.argmax(axis=1))
    rows = test["labels"].to_pylist()
    for metric in (log_loss, calibration_error):
        found, raw = (value(metric, answered(shares, KINDS, rows)) for shares in (after, before))
        assert found < 0.8 * raw, metric.TITLE
    assert f"temperature {made['temperature']:.6g}, fitted to the validation rows" in (
        (tmp_path / "model" / "README.md").read_text()
    )


def test_the_report_tells_the_error_that_there_was_without_it(stubborn: Path, tmp_path: Path) -> None:
    made = trained(stubborn, tmp_path / "model")
    trained(stubborn, tmp_path / "raw", calibrate=False)
    test = pq.read_table(stubborn / "test-00000.parquet")
    after, before = (Predictor.load(tmp_path / name).probabilities(test) for name in ("model", "raw"))
    rows = test["labels"].to_pylist()
    found = calibration_of(classes(*answered(after, KINDS, rows)), made["temperature"])
    raw = value(calibration_error, answered(before, KINDS, rows))
    assert found["uncalibrated_error"] == pytest.approx(raw, abs=1e-3)
    assert found["error"] == pytest.approx(value(calibration_error, answered(after, KINDS, rows)), abs=1e-6)
    assert sum(one["rows"] for one in found["bins"]) == len(test)
    gaps = sum(one["rows"] * abs(one["confidence"] - one["accuracy"]) for one in found["bins"])
    assert gaps / len(test) == pytest.approx(found["error"], abs=1e-5)


@pytest.mark.parametrize("several", [False, True], ids=["single", "multi"])
def test_probabilities_lead_back_to_temperature_one(several: bool) -> None:
    logits = rows_of(several, 200, 0)[0].astype(np.float64) / 4

    def shares(scaled: np.ndarray) -> np.ndarray:
        powers = np.exp(scaled)
        return powers / (1 + powers) if several else powers / powers.sum(axis=1, keepdims=True)

    assert np.allclose(uncalibrated(shares(logits / 2.5), 2.5, several), shares(logits))
    never = np.array([[0.0, 1.0]])
    assert np.array_equal(uncalibrated(never, 2.5, several), never)


@pytest.mark.parametrize("rows", [0, FEWEST_ROWS - 1])
def test_too_few_validation_rows_leave_it_at_one(rows: int, tmp_path: Path) -> None:
    splits = {name: table(KINDS, count, seed) for seed, (name, count) in enumerate(SMALL.items())}
    splits["validation"] = table(KINDS, rows, 1)
    write_dataset(tmp_path / "dataset", splits)
    assert trained(tmp_path / "dataset", tmp_path / "model", epochs=1)["temperature"] == 1.0
    assert "Calibration**: none" in (tmp_path / "model" / "README.md").read_text()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return made(tmp_path, epochs=1)[1]


def rewritten(model: Path, version: int, **changes: Any) -> None:
    """The model as another writer would have sealed it; None removes a key."""
    about = json.loads((model / "model.json").read_text()) | changes
    (model / "model.json").write_text(json.dumps({k: v for k, v in about.items() if v is not None}))
    manifest = json.loads((model / "manifest.json").read_text())
    files = hash_files(model)
    changed = {"files": files, "model_sha256": digest_of(files), "format_version": version}
    (model / "manifest.json").write_text(json.dumps(manifest | changed))


def test_a_model_of_format_1_is_read_and_answers_as_it_did(model: Path, tmp_path: Path) -> None:
    test = pq.read_table(tmp_path / "dataset" / "test-00000.parquet")
    before = Predictor.load(model).probabilities(test)
    rewritten(model, 1, temperature=None)
    assert Predictor.load(model).temperature == 1.0
    assert np.array_equal(Predictor.load(model).probabilities(test), before)
    rewritten(model, 2, temperature=2.0)
    assert Predictor.load(model).probabilities(test).max() < before.max()


@pytest.mark.parametrize("temperature", [0, -1.0, True, "warm", [1]])
def test_a_temperature_that_is_not_a_positive_number_is_refused(model: Path, temperature: Any) -> None:
    rewritten(model, 2, temperature=temperature)
    with pytest.raises(UserError, match=r"model\.json: 'temperature': input should be"):
        Predictor.load(model)


def test_an_own_trainers_model_keeps_its_temperature_and_gets_the_row_keys(
    model: Path, tmp_path: Path
) -> None:
    """Whatever keys the trainer left: those of the dataset say what it was given."""
    data, ours, script = tmp_path / "dataset", tmp_path / "ours", tmp_path / "trainer.py"
    write_row_keys(data, {"train": [b"8 bytes."], "test": [b"8 others"]})
    manifest = json.loads((data / "manifest.json").read_text())
    (data / "manifest.json").write_text(json.dumps(manifest | {"files": hash_files(data)}))
    rewritten(model, 2, temperature=2.5)
    script.write_text(
        "import shutil, sys\n"
        "into = sys.argv[sys.argv.index('--model') + 1]\n"
        f"for name in ('model.json', 'model.safetensors'): shutil.copy({str(model)!r} + '/' + name, into)\n"
        "open(into + '/row_keys.parquet', 'w').write('mine')\n"
    )
    trained(data, ours, command=f"python {script}")
    assert read_model(ours)["temperature"] == 2.5
    assert read_row_keys(ours).keys() == {"train", "test"}
