"""SIGKILL `make pipeline` at each step, and run it again: it completes, with one champion and no orphan."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import first_in_ci
from tests.project import ORDER, RECIPE, environment, made, make_project, pipeline, steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# Long enough to be met in the act.
SETTINGS = ("training.epochs=150",)


def start(project: Path) -> subprocess.Popen[bytes]:
    command = ["make", "pipeline", f"RECIPE={RECIPE}", f"VENV={sys.prefix}", f"SET={' '.join(SETTINGS)}"]
    with (project / "log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=project, env=environment(), stdout=log, stderr=log, start_new_session=True
        )


def processes(project: Path) -> list[psutil.Process]:
    """Whatever runs in the project's directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(step: str, project: Path, make: subprocess.Popen[bytes]) -> psutil.Process:
    """The step's own process, as soon as it is there."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and make.poll() is None:
        for process in processes(project):
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if words[1:4] == ["-m", "components", step]:
                return process
        time.sleep(0.02)
    raise AssertionError(f"{step} never ran: {(project / 'log').read_text()[-2000:]}")


def gone(project: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not processes(project):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("delay_seconds", first_in_ci([2.5, 0.0]), ids=["working", "starting"])
def test_killed_at_each_step_in_turn_it_completes(delay_seconds: float, tmp_path: Path) -> None:
    """Each time the same command goes on with what the kills before have left, up to the next kill."""
    project = make_project(tmp_path / "project")
    for step in ORDER:
        make = start(project)
        victim = wait_for(step, project, make)
        # Past its imports, if it takes that long.
        psutil.wait_procs([victim], timeout=delay_seconds)
        make.kill()
        make.wait()
        assert gone(project, seconds=5), [process.cmdline() for process in processes(project)]

    printed = pipeline(project, *SETTINGS)
    assert "register" in steps(printed) or "up to date" in printed
    check_whole(project)
    assert pipeline(project, *SETTINGS).startswith("Nothing to do")


def check_whole(project: Path) -> None:
    from retrainer.formats.model import check_model

    check_model(project / "runs" / RECIPE / "model")
    assert not list((project / "runs" / RECIPE).glob(".*")), "half-written outputs"
    with sqlite3.connect(project / "mlflow.db") as database:
        aliases = database.execute("SELECT alias, version FROM registered_model_aliases").fetchall()
        running = database.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone()
    registration = made(project, "registration", "registration.json")
    assert aliases == [("champion", int(registration["version"]))]
    assert running == (0,), "MLflow runs of killed processes are closed"


@pytest.mark.release
def test_killing_only_the_runner_or_ctrl_c_ends_its_step(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    make = start(project)
    victim = wait_for("train", project, make)
    runner = next(p for p in victim.parents() if p.cmdline()[1:4] == ["-m", "pipelines", "pipeline"])
    runner.kill()
    make.wait(timeout=30)
    assert gone(project, seconds=5)

    (project / "log").unlink()
    make = start(project)
    wait_for("train", project, make)
    time.sleep(1.5)
    os.killpg(make.pid, signal.SIGINT)
    assert make.wait(timeout=30) != 0
    assert gone(project, seconds=5)
    assert "Traceback" not in (project / "log").read_text()
    assert steps(pipeline(project, *SETTINGS))["register"] == "ran"
