"""What killed processes leave in MLflow, and that nothing else is ended with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from retrainer.__main__ import main
from retrainer.registry import history
from retrainer.registry.history import NOT_DONE, moves, new_move
from retrainer.registry.register import register_model
from retrainer.services import lookup, processes, runs
from retrainer.services.connection import client, experiment_id
from retrainer.services.readers import MODEL_SHA256, VERIFICATION
from tests.champions import NAME, NET, Project, fill, in_a_copy, own_environment, without_serving_check
from tests.conftest import ROOT
from tests.mlflow_server import running_server

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]
Capture = pytest.CaptureFixture[str]
FAR = "far:another-boot/1:1:1"
HOUR = 3_600_000
STATE = {"champion": "2", "challenger": "3"}


@pytest.fixture
def project(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return in_a_copy(three_versions, tmp_path, monkeypatch)


def dead() -> str:
    """A process of this host that is gone."""
    code = "from retrainer.services.processes import this_process; print(this_process())"
    return subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip()


def run_of(process: str, began: int, **metrics: int) -> str:
    """A run that stands as running; each metric has the time of its last value."""
    mlflow = client()
    tags = {runs.PROCESS: process, runs.STEP: "train"}
    run_id = mlflow.create_run(experiment_id(mlflow), start_time=began, tags=tags).info.run_id
    for key, timestamp in metrics.items():
        mlflow.log_metric(run_id, key, 1.0, timestamp)
    return str(run_id)


def status(run_id: str) -> str:
    return str(client().get_run(run_id).info.status)


def killed_registration(project: Project, seed: int, where: str) -> None:
    """Registers another model in a process that kills itself when it comes to `where`."""
    model, report = project.candidate(seed, "challenger")
    code = (
        "import os; from pathlib import Path; from retrainer.registry import register, versions;"
        f"from retrainer.settings import Registry; versions.{where} = lambda *_: os.kill(os.getpid(), 9);"
        f"model, report = Path({str(model)!r}), Path({str(report)!r});"
        "register.register_model(model, report, Path('left'), Registry(name='net'))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=project.folder, capture_output=True
    )
    assert done.returncode == -9, done.stderr


def logged() -> dict[str, str]:
    """Model id → status."""
    mlflow = client()
    return {
        model.model_id: str(model.status) for model in mlflow.search_logged_models([experiment_id(mlflow)])
    }


def later(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    there = runs.now() + int(hours * HOUR)
    monkeypatch.setattr(runs, "now", lambda: there)


def test_runs_of_the_dead_and_the_silent_are_closed_and_no_others(project: Project, capsys: Capture) -> None:  # noqa: ARG001
    now = runs.now()
    left = {
        "gone": run_of(dead(), now),
        "silent": run_of(FAR, now - 3 * HOUR),
        "stopped": run_of(FAR, now - 3 * HOUR, loss=now - 3 * HOUR, memory=now - 2 * HOUR),
    }
    alive = {
        "mine": run_of(processes.this_process(), now - 9 * HOUR),
        "young": run_of(FAR, now - HOUR // 2),
        "heard of": run_of(FAR, now - 3 * HOUR, loss=now - 3 * HOUR, memory=now - HOUR // 2),
        "another tool's": client().create_run(experiment_id(client()), start_time=now - 9 * HOUR).info.run_id,
    }
    assert main(["reap"]) == 0
    out = capsys.readouterr().out
    assert {name: status(run) for name, run in left.items()} == dict.fromkeys(left, "KILLED")
    assert {name: status(run) for name, run in alive.items()} == dict.fromkeys(alive, "RUNNING")
    assert sorted(out.splitlines()) == sorted(f"run {run} (train): KILLED" for run in left.values())
    assert main(["reap"]) == 0
    assert capsys.readouterr().out == "nothing was left behind\n"


@pytest.mark.slow
@pytest.mark.usefixtures("printed_messages")
def test_the_next_registration_ends_what_a_killed_one_left(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    without_serving_check(monkeypatch)
    before = logged()
    killed_registration(project, 7, "save_bundle")
    killed_registration(project, 8, "check_serving")
    assert lookup.by_version(NAME, "4") is not None
    assert sorted(logged().values()).count("PENDING") <= 1
    capsys.readouterr()
    made = project.register(9, "challenger")
    told = capsys.readouterr().err
    assert "register: left by a killed process: version 4 of 'net', never proven to serve: deleted" in told
    assert lookup.by_version(NAME, "4") is None
    assert len(logged()) == len(before) + 1
    assert set(logged().values()) == {"READY"}
    assert lookup.state(NAME) == {"champion": "2", "challenger": made["version"]}


@pytest.mark.slow
def test_the_same_model_registered_again_goes_on_with_what_there_is(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_serving_check(monkeypatch)
    killed_registration(project, 8, "check_serving")
    model, report = project.folder / "model-8", project.folder / "model-8-report"
    assert register_model(model, report, project.folder / "again", NET)["version"] == "4"


def test_what_others_left_goes_by_its_age_and_an_alias_protects(
    project: Project,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    mlflow = client()
    kept = logged()
    tags = {MODEL_SHA256: "a" * 64, runs.PROCESS: FAR}
    model = mlflow.create_logged_model(experiment_id(mlflow), name=NAME, tags=tags)
    strange = mlflow.create_logged_model(experiment_id(mlflow), name=NAME)
    taken = mlflow.create_logged_model(experiment_id(mlflow), name=NAME, tags=tags)
    for more in ({}, {VERIFICATION: "failed"}, {}):
        mlflow.create_model_version(NAME, "runs:/abc/model", tags={MODEL_SHA256: "a" * 64} | more)
    mlflow.create_model_version(NAME, taken.model_uri)
    mlflow.set_registered_model_alias(NAME, "shadow", "6")
    assert main(["reap"]) == 0
    assert capsys.readouterr().out == "nothing was left behind\n"
    # Unproven as it may be now, the champion stays.
    mlflow.set_model_version_tag(NAME, "2", VERIFICATION, "failed")
    later(monkeypatch, 1.1)
    assert main(["reap"]) == 0
    out = capsys.readouterr().out.splitlines()
    deleted = [f"version {version} of 'net', never proven to serve: deleted" for version in "45"]
    assert sorted(out) == sorted([*deleted, f"logged model {model.model_id}, which is no version: deleted"])
    assert [lookup.by_version(NAME, version) is not None for version in "1234567"] == [
        *(True, True, True, False, False),
        *(True, True),
    ]
    assert logged().keys() == {*kept, strange.model_id, taken.model_id}
    assert lookup.state(NAME) == STATE


def test_a_move_that_a_crash_left_is_settled(project: Project, capsys: Capture) -> None:  # noqa: ARG001
    move = new_move(NAME, "promote", "2", "1", "", "champion")
    history._write(client(), NAME, move)
    assert main(["reap"]) == 0
    assert capsys.readouterr().out == f"the move of the champion to version 1 by {move.who}: not done\n"
    assert moves(NAME)[-1].state == NOT_DONE
    assert lookup.state(NAME) == STATE


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "x", "", "0.1"])
def test_too_few_hours_are_refused(project: Project, capsys: Capture, hours: str) -> None:  # noqa: ARG001
    assert main(["reap", f"--hours={hours}"]) == 2
    assert capsys.readouterr().err == f"reap: HOURS={hours}: needed is a number of hours, 0.25 or more\n"


@pytest.mark.release
def test_on_a_server_the_same_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    own_environment(monkeypatch, tmp_path)
    without_serving_check(monkeypatch)
    (tmp_path / "server").mkdir()
    with running_server(tmp_path / "server") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        project = fill(tmp_path)
        before = logged()
        killed_registration(project, 8, "check_serving")
        now = runs.now()
        silent, heard = run_of(FAR, now - 3 * HOUR), run_of(FAR, now - 3 * HOUR, loss=now - HOUR // 2)
        capsys.readouterr()
        assert main(["reap"]) == 0
        out = capsys.readouterr().out.splitlines()
        assert f"run {silent} (train): KILLED" in out
        assert "version 4 of 'net', never proven to serve: deleted" in out
        assert len(out) == 3
        assert (status(silent), status(heard)) == ("KILLED", "RUNNING")
        assert logged() == before
        assert lookup.state(NAME) == STATE
