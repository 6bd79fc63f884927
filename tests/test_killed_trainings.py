"""Trainings in processes of their own that are killed or stopped: the same command makes the same bytes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrainer.settings import Backbone, Compute, Task, Training
from tests.conftest import first_quick
from tests.project import RECIPE, copied, environment, made, pipeline, run
from tests.small_networks import PLAIN, settings
from tests.training_cases import HALF, MLP, RICH, TASK
from tests.training_process import Runner, job_of


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    made_once = Runner(tmp_path_factory.mktemp("runner") / "log")
    yield made_once
    made_once.end()


def digits_job(out: Path, digits: Path, plan: Training, compute: Compute = PLAIN) -> dict[str, Any]:
    sections = {"task": TASK, "backbone": MLP, "training": plan, "compute": compute}
    return job_of(out, digits, None, {name: section.plain() for name, section in sections.items()})


def reviews_job(
    out: Path, reviews: Path, bert: Path, plan: Training, compute: Compute = PLAIN
) -> dict[str, Any]:
    sections = {"task": Task(max_length=16), "backbone": Backbone(), "training": plan, "compute": compute}
    return job_of(out, reviews, bert, {name: section.plain() for name, section in sections.items()})


def sha256_of(model: Path) -> str:
    return str(json.loads((model / "manifest.json").read_text())["model_sha256"])


KILLS, MORE_KILLS = 3, 8
DIGITS, REVIEWS = ("digits",), ("reviews", "bert")
PLANS = {
    "images": (DIGITS, settings(**RICH | {"epochs": 6}), PLAIN),
    "encoder": (REVIEWS, settings(**RICH | {"strategy": "full", "epochs": 6}), PLAIN),
}
LONG = (
    (DIGITS, "scratch"),
    *((REVIEWS, name) for name in ("scratch", "frozen", "head-then-full", "last-n", "lora", "full")),
)
# In bfloat16 the first and the last: what a checkpoint holds depends on the strategy alone.
LONG_PLANS = {
    f"{data[0]}-{kind}-{compute.dtype}": (data, settings(**RICH | {"strategy": kind, "epochs": 8}), compute)
    for compute, chosen in ((PLAIN, LONG), (HALF, (LONG[0], LONG[-1])))
    for data, kind in chosen
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("images", marks=pytest.mark.slow),
        pytest.param("encoder", marks=pytest.mark.release),
        *(pytest.param(name, marks=pytest.mark.release) for name in LONG_PLANS),
    ],
)
def test_killed_again_and_again_it_makes_the_same_model(
    name: str, request: pytest.FixtureRequest, runner: Runner, tmp_path: Path
) -> None:
    data, plan, compute = {**PLANS, **LONG_PLANS}[name]
    runner.log = tmp_path / "log"
    inputs = [request.getfixturevalue(fixture) for fixture in data]
    job = (digits_job if "digits" in data else reviews_job)(tmp_path / "plain", *inputs, plan, compute)
    assert runner.run(job) == 0, runner.said()
    job |= {"out": str(tmp_path / "model")}
    job["environment"] = {
        "RETRAINER_CHECKPOINTS": str(tmp_path / "kept"), "RETRAINER_CHECKPOINT_SECONDS": "0.001"
    }  # fmt: skip
    draw, kills, status = np.random.default_rng(7), 0, -signal.SIGKILL
    while kills < (KILLS if name in PLANS else MORE_KILLS) and status:
        moment = {"kill_at": int(draw.integers(5, 25)), "after_seconds": float(draw.uniform(0, 0.004))}
        status = runner.run(job | moment)
        assert status in (-signal.SIGKILL, 0), runner.said()
        kills += status != 0
        assert (tmp_path / "model").exists() == (status == 0)
    assert kills >= 3
    assert status == 0 or runner.run(job) == 0, runner.said()
    assert sha256_of(tmp_path / "model") == sha256_of(tmp_path / "plain")
    assert (tmp_path / "model/history.json").read_bytes() == (tmp_path / "plain/history.json").read_bytes()
    assert runner.said().count("train: going on from epoch") >= kills - 1, runner.said()
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize("number", first_quick([signal.SIGTERM, signal.SIGINT]))
def test_a_signal_writes_a_checkpoint_and_ends_the_process(
    number: signal.Signals, runner: Runner, digits: Path, tmp_path: Path
) -> None:
    runner.log = tmp_path / "log"
    job = digits_job(tmp_path / "plain", digits, settings(**RICH))
    assert runner.run(job) == 0
    job |= {"out": str(tmp_path / "model")}
    job["environment"] = {"RETRAINER_CHECKPOINTS": str(tmp_path / "kept")}
    with caught(runner, job, tmp_path) as pid:
        os.kill(pid, number)
    assert runner.wait() == 128 + number
    last = runner.said().splitlines()[-1]
    assert last == f"train: stopped by {number.name}; the same command goes on from epoch 2, step 6"
    assert runner.run(job) == 0 and "train: going on from epoch 2, step 6 (" in runner.said()
    assert sha256_of(tmp_path / "model") == sha256_of(tmp_path / "plain")


@contextmanager
def caught(runner: Runner, job: dict[str, Any], folder: Path) -> Iterator[int]:
    """The process id of a training that is in the 6th step of its second epoch."""
    in_an_epoch = 19 + 1
    pid = runner.start(job | {"tell": str(folder / "here"), "tell_at": in_an_epoch + 6})
    deadline = time.monotonic() + 60
    while not (folder / "here").exists():
        assert time.monotonic() < deadline, runner.said()
        time.sleep(0.005)
    yield pid


def test_a_hanging_store_does_not_delay_the_end_of_a_stopped_training(
    runner: Runner, digits: Path, tmp_path: Path
) -> None:
    runner.log = tmp_path / "log"
    job = digits_job(tmp_path / "model", digits, settings(**RICH)) | {"slow": True, "leave_seconds": 0.5}
    with caught(runner, job, tmp_path) as pid:
        os.kill(pid, signal.SIGTERM)
    assert runner.wait() == 143
    assert "goes on from the last checkpoint, if any" in runner.said().splitlines()[-1]


def test_a_second_ctrl_c_does_not_wait(runner: Runner, digits: Path, tmp_path: Path) -> None:
    runner.log = tmp_path / "log"
    job = digits_job(tmp_path / "model", digits, settings(**RICH)) | {"slow": True, "leave_seconds": 900}
    with caught(runner, job, tmp_path) as pid:
        os.kill(pid, signal.SIGINT)
        time.sleep(1)
        os.kill(pid, signal.SIGINT)
    assert runner.wait() == 130


# --- the whole pipeline --------------------------------------------------------------------------------


@pytest.mark.release
@pytest.mark.timeout(600)
def test_make_killed_in_training_goes_on(finished_project: Path, tmp_path: Path) -> None:
    """The runner is killed, its step with it; the same command goes on, and MLflow has every epoch once."""
    project, again = (copied(finished_project, tmp_path / name) for name in ("project", "again"))
    long = ("training.epochs=120",)
    words = [sys.executable, "-m", "pipelines", "pipeline", "--recipe", RECIPE, "--set", *long]
    often = environment() | {"RETRAINER_CHECKPOINT_SECONDS": "0.1"}
    with (project / "log").open("wb") as log:
        process = subprocess.Popen(words, cwd=project, env=often, stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while not any(int(file.name[:6]) > 9 for file in project.glob(".checkpoints/*/0*.pt")):
        assert time.monotonic() < deadline and process.poll() is None, (project / "log").read_text()
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert "train: going on from epoch" in pipeline(project, *long)
    resumed = made(project, "model", "manifest.json")["model_sha256"]
    assert not list(project.glob(".checkpoints/*"))
    with sqlite3.connect(project / "mlflow.db") as database:
        query = "SELECT count(*), count(DISTINCT step), max(step) FROM metrics JOIN runs USING (run_uuid)"
        query += " WHERE key = 'train_loss' AND runs.status = 'FINISHED' GROUP BY run_uuid ORDER BY count(*)"
        # Of the finished project's own two epochs, and of these.
        assert database.execute(query).fetchall() == [(2, 2, 2), (120, 120, 120)]
    run(again, "step", "train", "--recipe", RECIPE, "--set", *long)
    assert made(again, "model", "manifest.json")["model_sha256"] == resumed
