"""Regression: numbers out of texts and images, from the table to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from retrainer import extend, metrics
from retrainer.data.sources._png import grey_png
from retrainer.errors import DataError
from retrainer.evaluation.evaluate import Request, evaluate_model
from retrainer.formats.columns import ENCODED
from retrainer.formats.dataset import write_dataset
from retrainer.predict import Predictor
from retrainer.settings import Backbone, Compute, Evaluation, Gate, Task, Training
from retrainer.tasks import make_task
from retrainer.tasks._number_baselines import baselines
from retrainer.tasks._number_report import details, panels
from retrainer.tasks._protocol import Judged
from retrainer.training.compute import resolve_compute
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model

COMPUTE = resolve_compute(Compute(device="cpu", dtype="float32", threads=1))
TASK = Task(kind="image_regression", size=8, channels=1)
THEIRS = {
    "mean_absolute_error": mean_absolute_error,
    "root_mean_squared_error": root_mean_squared_error,
    "r2": r2_score,
}


def tables(predicted: Any, target: Any) -> tuple[pa.Table, pa.Table]:
    made = ({"prediction": predicted}, {"target": target})
    first, second = (pa.table({k: pa.array(v, pa.float64()) for k, v in one.items()}) for one in made)
    return first, second


def value(name: str, predicted: Any, target: Any) -> float:
    metric: Any = metrics.load(name, "gate.metric")
    return float(metric.value(metric.statistics(*tables(predicted, target)).sum(axis=0)))


# --- metrics -------------------------------------------------------------------------------------------

_NUMBERS = arrays.arrays(np.float64, 30, elements=st.floats(-1e6, 1e6, width=32))


@pytest.mark.parametrize("name", THEIRS)
@given(predicted=_NUMBERS, target=_NUMBERS, far=st.sampled_from([0.0, 1e9]))
def test_a_metric_is_scikit_learns(name: str, predicted: np.ndarray, target: np.ndarray, far: float) -> None:
    target = target + np.arange(30)  # else R² may not exist
    target[0] += 1.0 if np.ptp(target) == 0 else 0.0
    expected = THEIRS[name](target + far, predicted + far)
    assert value(name, predicted + far, target + far) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_r2_where_it_does_not_exist() -> None:
    assert value("r2", [1.0, 2.0], [3.0, 3.0]) == 0
    assert value("r2", [], []) == value("mean_absolute_error", [], []) == 0


# --- training and answers ------------------------------------------------------------------------------


def squares(rows: int, seed: int) -> pa.Table:
    """Noisy pictures; the target is 1,000,000 and a thousand times how bright the upper half is."""
    draws = np.random.default_rng(seed)
    shades = draws.uniform(0.1, 0.9, rows)
    pixels = draws.normal(110, 20, (rows, 8, 8))
    pixels[:, :4] = draws.normal(255 * shades[:, None, None], 10, (rows, 4, 8))
    images = [{"bytes": grey_png(one.clip(0, 255).astype(np.uint8)), "path": None} for one in pixels]
    return pa.table(
        {
            "image": pa.array(images, ENCODED),
            "target": pa.array(1e6 + 1000 * shades, pa.float64()),
            "origin": pa.array([f"{seed}.csv:row {row}" for row in range(rows)]),
        }
    )


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with dataset, model and report; and the report's figures."""
    folder = tmp_path_factory.mktemp("regression")
    splits = {"train": squares(120, 0), "validation": squares(40, 1), "test": squares(60, 2)}
    write_dataset(folder / "dataset", splits)
    training = Training(strategy="scratch", epochs=20, batch_size=16, learning_rate=5e-3)
    settings = Settings(TASK, Backbone(family="mlp", hidden=[16]), training, COMPUTE)
    train_model(Inputs(folder / "dataset", settings), folder / "model")
    few = Evaluation(resamples=200)
    request = Request(folder / "dataset", folder / "model", folder / "report", few, Gate(), COMPUTE)
    return folder, evaluate_model(request)


def test_it_learns_numbers_in_their_own_units(judged: tuple[Path, dict[str, Any]]) -> None:
    folder, report = judged
    test = squares(60, 2)
    found = Predictor.load(folder / "model").predict(test.drop_columns(["target"]))
    assert found.schema == pa.schema([("prediction", pa.float64())])
    assert np.abs(found["prediction"].to_numpy() - test["target"].to_numpy()).mean() < 60
    history = json.loads((folder / "model" / "history.json").read_text())
    assert history[-1]["validation_error"] < 60 < 0.5 * history[0]["validation_error"]
    own = {name: report["metrics"][name]["value"] for name in THEIRS}
    expected = {name: f(test["target"], found["prediction"]) for name, f in THEIRS.items()}
    assert own == pytest.approx(expected, rel=1e-6)
    assert report["headline"] == "mean_absolute_error"


def test_a_constant_and_a_linear_model_stand_beside_it(judged: tuple[Path, dict[str, Any]]) -> None:
    report = judged[1]
    errors = {n: b["metrics"]["mean_absolute_error"]["value"] for n, b in report["baselines"].items()}
    assert list(errors) == ["median", "mean", "pixels_ridge"]
    assert errors["pixels_ridge"] < 0.5 * min(errors["median"], errors["mean"])
    assert report["baselines"]["mean"]["metrics"]["r2"]["value"] == pytest.approx(0, abs=0.1)


def test_the_report_draws_what_was_wrong(judged: tuple[Path, dict[str, Any]]) -> None:
    folder, report = judged
    page = (folder / "report" / "report.html").read_text()
    for title in ("Predicted against true", "By size of the true value", "Largest errors"):
        assert f"<h2>{title}</h2>" in page
    told = report["details"]
    assert "What predictions rest on" in page and len(told["attributions"]["rows"]) == 14
    assert [one["row"] for one in told["nearest"]] == [one["row"] for one in told["worst"]]
    assert len(told["points"]) == sum(told["residuals"]["counts"]) == 60
    assert sum(part["rows"] for part in told["ranges"]) == 60 and len(told["ranges"]) == 3
    errors = [abs(row["prediction"] - row["target"]) for row in told["worst"]]
    assert errors == sorted(errors, reverse=True) and told["worst"][0]["where"].startswith("2.csv:row")


def test_texts_are_compared_with_ridge_on_their_words() -> None:
    words = ["good", "bad", "fine"] * 20
    train = pa.table({"text": words, "target": [1.0, -1.0, 0.5] * 20})
    found = baselines(train, train, Evaluation()).found[-1]
    assert (found.name, found.title) == ("tfidf_ridge", "TF-IDF + ridge regression")
    assert value("r2", found.predictions["prediction"], train["target"]) > 0.9
    hostile = pa.table({"text": ["<script>"] * 2, "target": [0.0, 1.0]})
    given_ = tables([5.0, 5.0], [0.0, 1.0])[0]
    judged: Any = Judged(None, train, hostile, given_, Evaluation(explain=0), None)  # type: ignore[arg-type]
    assert "<script>" not in "".join(panels(judged, details(judged)))


def test_targets_that_are_one_number_are_refused() -> None:
    task = extend.load("tasks", "text_regression", "task.kind").make(Task(kind="text_regression"), ())
    with pytest.raises(DataError, match=r"^every training row has the target 3; there is nothing to learn$"):
        task.learn(pa.table({"text": ["a", "b"], "target": [3.0, 3.0]}))
    assert make_task(Task(kind="text_regression")).labels == ()
