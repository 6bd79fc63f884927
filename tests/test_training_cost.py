"""A model's cost is that of every attempt at it: read back from MLflow, and told before the next one."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retrainer.cost import TRAIN_ROWS, Usage
from retrainer.registry.costs import costs_of_years
from retrainer.services import runs_over_rest
from retrainer.services.expected_cost import expected
from retrainer.services.readers import MODEL_SHA256
from retrainer.services.runs import DATASET_SHA256, SETTINGS_SHA256
from retrainer.services.runs_over_rest import FoundRun
from retrainer.services.training_run import TrainRun
from retrainer.services.trainings import cost_of_model, effort_of, efforts, measured_runs
from retrainer.settings import SECTIONS, Evaluation, Rates
from tests.conftest import ROOT
from tests.mlflow_server import running_server
from tests.project import RECIPE, copied, environment, made, pipeline, steps
from tests.registered import image_dataset

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*")

RATES = Rates.parse({}, "evaluation.cost")
PLAN = {"training": {"epochs": 2, "batch_size": 16}, "backbone": {"family": "mlp"}}


def found(name: str, model: str = "", settings: str = "s", hours: float = 1.0) -> FoundRun:
    tags = {SETTINGS_SHA256: settings, DATASET_SHA256: "d"} | ({MODEL_SHA256: model} if model else {})
    return FoundRun(name, tags, metrics=Usage(hours=hours, cpu_hours=hours).metrics())


def test_attempts_count_for_the_next_model_of_the_same_data_and_settings() -> None:
    runs = [
        found("killed"),
        found("of another kind", settings="t"),
        found("failed", hours=0.5),
        found("done", "m"),
        found("given up", settings="t"),
        found("killed again"),
        found("with other code", "n"),
    ]
    assert [[run.run_id for run in one.runs] for one in efforts(runs)] == [
        ["killed", "failed", "done"],
        ["killed again", "with other code"],
        ["of another kind", "given up"],
    ]
    effort = effort_of("m", runs)
    assert effort is not None and effort.usage.cpu_hours == 2.5
    assert (effort.priced(RATES)["runs"], effort.priced(RATES)["unfinished"]) == (3, 2)
    again = effort_of("m", [*runs, found("once more", "m")])
    assert again is not None and again.usage.cpu_hours == 3.5 and again.unfinished == 2
    assert effort_of("unknown", runs) is None


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset in an empty project."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "RETRAINER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.chdir(tmp_path)
    return image_dataset(tmp_path / "dataset")


def trained(dataset: Path, sha256: str, plan: dict[str, Any] = PLAN) -> None:
    with TrainRun(plan, dataset) as run:
        run.finish(sha256)


def test_what_failed_and_what_came_of_it_are_one_cost(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured_runs() == []
    with pytest.raises(KeyError), TrainRun(PLAN, dataset):
        raise KeyError
    trained(dataset, "m" * 64)
    first, second = measured_runs()
    assert not first.tags.get(MODEL_SHA256) and second.metrics[TRAIN_ROWS] == 12
    cost = cost_of_model("m" * 64, RATES)
    assert cost is not None and (cost["runs"], cost["unfinished"]) == (2, 1)
    both = sum(run.metrics["cost.cpu_hours"] for run in (first, second))
    assert cost["cpu_hours"] == pytest.approx(both, rel=1e-4) and both > 0
    assert cost_of_model("n" * 64, RATES) is None
    # Of the year all counts, and by prices where there are some.
    sections = {name: kind.parse({}, name) for name, kind in SECTIONS.items()}
    sections["evaluation"] = Evaluation.parse({"cost": {"currency": "EUR", "per_cpu_hour": 1}}, "evaluation")
    assert costs_of_years(sections) == [], "the experiment is called otherwise than this model"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "retrainer")
    (line,) = costs_of_years(sections)
    assert line.startswith("trained in 20") and "2 runs, 1 of them interrupted or failed: " in line
    assert line.endswith("EUR")
    # Before the next one, with more rows and another setting.
    said = expected(PLAN | {"training": {"epochs": 4, "batch_size": 8}}, {"train": 36, "test": 9})
    assert "scaled from 12 rows × 2 epochs to 36 rows × 4 epochs" in said
    assert said.endswith("not reckoned with: another training.batch_size")
    assert "of 12 rows; it grows with the rows and epochs" in expected(PLAN, None)


def test_a_pod_that_is_tried_again_goes_on_counting(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubeflow's own MLflow run is one for all tries of a pod."""
    trained(dataset, "")
    (first,) = measured_runs()
    monkeypatch.setenv("MLFLOW_RUN_ID", first.run_id)
    trained(dataset, "m" * 64)
    (both,) = measured_runs()
    assert both.metrics["cost.hours"] > first.metrics["cost.hours"]
    assert both.metrics["cost.cpu_hours"] > first.metrics["cost.cpu_hours"]


def test_nothing_is_expected_of_what_was_never_trained(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dataset.is_dir()
    assert expected(PLAN, {"train": 12}) == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert expected(PLAN, {"train": 12}).startswith("what it will cost is not known: MLFLOW_TRACKING_URI=")
    assert cost_of_model("m" * 64, RATES) is None


KILLED = """
import sys, time
from pathlib import Path
from retrainer.services.training_run import TrainRun
plan = {"training": {"epochs": 2, "batch_size": 16}, "backbone": {"family": "mlp"}}
with TrainRun(plan, Path("dataset")) as run:
    while True: sum(range(10_000))
"""


@pytest.mark.slow
def test_a_training_that_is_killed_has_cost_something(dataset: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as process:
        deadline = time.monotonic() + 60
        while not any(run.metrics["cost.cpu_hours"] > 2 / 3600 for run in measured_runs()):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    trained(dataset, "m" * 64)
    cost = cost_of_model("m" * 64, RATES)
    assert cost is not None and cost["unfinished"] == 1 and cost["cpu_hours"] > 2 / 3600


@pytest.mark.release
def test_a_server_tells_the_same(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server").mkdir()
    with running_server(tmp_path / "server") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        trained(dataset, "m" * 64)
        (run,) = measured_runs()
        assert run.metrics["cost.hours"] > 0 and run.params["training.epochs"] == "2" and run.began > 0
        assert cost_of_model("m" * 64, RATES)
        assert measured_runs("of another name") == []
        assert runs_over_rest.search(address, {}, "retrainer")[0] == replace(run)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_pipeline_tells_it_everywhere_and_a_price_trains_nothing(
    finished_project: Path, tmp_path: Path
) -> None:
    """Of a model whose training is over: it is judged and registered anew."""
    project = copied(finished_project, tmp_path / "project")
    with sqlite3.connect(project / "mlflow.db") as database:
        for table in ("model_version_tags", "model_versions"):
            database.execute(f"DELETE FROM {table}")
        for part in ("_aliases", "_tags", "s"):
            database.execute(f"DELETE FROM registered_model{part}")
    prices = "evaluation.cost={currency: EUR, per_cpu_hour: %s, co2_kg_per_kwh: 0.4}"
    said = pipeline(project, prices % 36)
    assert steps(said) == {"evaluate": "ran", "register": "ran"}
    cost = made(project, "report", "metrics.json")["training_cost"]
    assert cost["money"] == pytest.approx(36 * cost["cpu_hours"], rel=1e-4) and cost["co2_kg"] > 0
    assert "\ncost        " in said and " EUR, " in said and "; all steps took 0.0" in said
    for file in ("report.html", "model_card.md"):
        assert "core-hours" in (project / "runs" / RECIPE / "report" / file).read_text()
    assert steps(pipeline(project, prices % 72)) == {"evaluate": "ran", "register": "ran"}
    dearer = made(project, "report", "metrics.json")["training_cost"]
    assert dearer["money"] == pytest.approx(2 * cost["money"], rel=1e-4)
    words = [sys.executable, "-m", "retrainer", "history", "--recipe", RECIPE]
    done = subprocess.run(words, cwd=project, env=environment(), capture_output=True, text=True, check=True)
    head, entry, year = done.stdout.splitlines()[:3]
    assert "  cost  " in head and " EUR  " in entry and year.startswith("trained in 20")
