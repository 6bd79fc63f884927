"""Runs on Kubeflow: submitted, followed and listed, against its API on loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster import runs
from pipelines.cluster.connection import connect
from pipelines.cluster.submit import start, submit
from pipelines.compile import Compiled, compile_recipe, images_named
from retrainer.errors import UserError
from tests.cluster_run import with_our_settings
from tests.conftest import ROOT
from tests.kfp_api import CUT, CUT_AFTER, FAIL_503, Api, running_api

IMAGES = images_named("registry.example/retrainer@sha256:" + "a" * 64)
RECIPE = "digits-mlp"
CANARY = "canary-5f1c-never-print-me"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with running_api() as running:
        monkeypatch.setenv("KFP_ENDPOINT", running.address)
        monkeypatch.setenv("KFP_TOKEN", CANARY)
        for name in ("KFP_NAMESPACE", "KFP_PIPELINE_ROOT", "MLFLOW_TRACKING_URI"):
            monkeypatch.delenv(name, raising=False)
        running.token = CANARY
        yield running


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_our_settings(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def compiled(project: Path) -> Compiled:
    return compile_recipe(RECIPE, ["cluster.mlflow_secret=mlflow"], IMAGES, project)


def task(name: str, state: str, **more: Any) -> dict[str, Any]:
    return {"display_name": name, "state": state, "execution_id": "7", **more}


def with_tasks(state: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"state": state, "run_details": {"task_details": list(tasks)}, **more}


def test_a_run_is_submitted_with_its_pipeline(
    api: Api, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        "cluster.mlflow_secret=mlflow",
        "cluster.experiment=vision",
        "cluster.service_account=trainer",
    ]
    assert submit(RECIPE, settings, IMAGES, root=project) == 0
    (run,) = api.runs.values()
    printed = capsys.readouterr()
    assert f"{api.address}/#/runs/details/{run['run_id']}" in printed.out
    assert [e["display_name"] for e in api.experiments.values()] == ["vision"]
    assert run["service_account"] == "trainer"
    assert run["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == f"retrainer-{RECIPE}"
    assert "mlflow" in str(run["pipeline_spec"]["platform_spec"])
    assert CANARY not in printed.out + printed.err


def test_the_artifacts_place_travels_with_the_run(
    api: Api, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_PIPELINE_ROOT", "s3://artifacts/team")
    start(connect(), compiled)
    (run,) = api.runs.values()
    assert run["runtime_config"]["pipeline_root"] == "s3://artifacts/team"


def test_without_a_registry_for_the_pods_nothing_is_submitted(api: Api, project: Path) -> None:
    with pytest.raises(UserError, match=r"cluster.mlflow_secret is empty.*inside their pods.*SECRET=name"):
        submit(RECIPE, [], IMAGES, root=project)
    assert not api.runs and not api.experiments


@pytest.mark.parametrize("fault", [CUT_AFTER, CUT])
def test_a_lost_answer_makes_no_second_run(api: Api, compiled: Compiled, fault: str) -> None:
    """Cut after it took effect, the run is found; cut before, the failure is told and there is none."""
    api.faults["POST", "/runs"] = [fault]
    if fault == CUT_AFTER:
        assert start(connect(), compiled) in api.runs
    else:
        with pytest.raises(UserError, match=r"KFP_ENDPOINT=.*does not answer"):
            start(connect(), compiled)
    assert len(api.runs) == (fault == CUT_AFTER)


def test_a_followed_run_tells_each_change_once(
    api: Api, compiled: Compiled, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = connect()
    run_id = start(connection, compiled)
    api.scripts[run_id] = [
        with_tasks("RUNNING", task("ingest-driver", "SUCCEEDED"), task("ingest", "RUNNING")),
        with_tasks("RUNNING", task("ingest", "RUNNING")),
        with_tasks("RUNNING", task("ingest", "SUCCEEDED"), task("preprocess", "SKIPPED")),
        with_tasks("SUCCEEDED", task("ingest", "SUCCEEDED"), task("preprocess", "SKIPPED")),
    ]
    assert runs.follow(connection, run_id, poll_seconds=0) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["── ingest: running", "── ingest: succeeded", "── preprocess: skipped"]
    assert re.fullmatch(rf"run {run_id} succeeded in \d+:\d\d:\d\d", lines[3])


@pytest.mark.parametrize("gone", [False, True])
def test_a_failed_run_says_which_step_and_why(
    api: Api, compiled: Compiled, gone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed task has neither error nor pod (api_converter.go:1908 of KFP 2.17), only nodes below it."""
    connection = connect()
    run_id = start(connection, compiled)
    node, first, last = ({"pod_name": f"retrainer-x-{number}"} for number in (5, 123, 77))
    tasks = [
        task("ingest", "SUCCEEDED"),
        task("train", "FAILED", child_tasks=[node]),
        task("executor", "FAILED", child_tasks=[first, last]),
    ]
    api.scripts[run_id] = [with_tasks("FAILED", *tasks)]
    if not gone:
        log = (
            "time=1 argo\ntrain: training.epochs: \x1b[31mno\nmain.go:60] failed to execute: exit status 2\n"
        )
        api.logs["retrainer-x-retry-system-container-impl-77"] = log
        api.logs["retrainer-x-retry-system-container-impl-123"] = "train: killed before it said this\n"
    assert runs.follow(connection, run_id, poll_seconds=0) == 1
    printed = capsys.readouterr().err
    assert ("  train: training.epochs:  [31mno\n" in printed) is not gone
    assert f"make replay RUN={run_id} STEP=train" in printed


def test_a_run_that_predicts_is_told_of_as_well(
    api: Api, compiled: Compiled, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its one task is none of the steps, and `make replay` has it not."""
    connection = connect()
    run_id = start(connection, compiled)
    tasks = (task("predict", "FAILED"), task("executor", "FAILED", child_tasks=[{"pod_name": "x-77"}]))
    api.scripts[run_id] = [with_tasks("RUNNING", task("predict", "RUNNING")), with_tasks("FAILED", *tasks)]
    why = "predict: INPUT: there is nothing at s3://bucket/new"
    api.logs["x-retry-system-container-impl-77"] = f"{why}\nmain.go:59] failed to execute: exit status 2\n"
    assert runs.follow(connection, run_id, poll_seconds=0) == 1
    printed = capsys.readouterr()
    assert printed.out == "── predict: running\n── predict: failed\n"
    assert f"  {why}\n" in printed.err and "make replay" not in printed.err


def test_a_step_that_was_killed_says_what_the_launcher_saw(
    api: Api, compiled: Compiled, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines as of Kubeflow 2.17's own launcher and Argo 4.0.5's own executor."""
    connection = connect()
    run_id = start(connection, compiled)
    tasks = (task("train", "FAILED"), task("executor", "FAILED", child_tasks=[{"pod_name": "x-77"}]))
    api.scripts[run_id] = [with_tasks("FAILED", *tasks)]
    seen = "E1126 08:22:59.608650      15 launcher_v2.go:449] Component failed to execute: signal: killed"
    api.logs["x-retry-system-container-impl-77"] = (
        'time=2026-11-26T08:22:20.000Z level=INFO msg="capturing logs" argo=true\n'
        "I1126 08:22:20.938193      15 main.go:67] Setting log level to: '1'\n"
        "train: going on from epoch 22, step 8 (checkpoint of 08:22)\n"
        f"{seen}\n"
        "Error: exit status 1\n"
    )
    assert runs.follow(connection, run_id, poll_seconds=0) == 1
    printed = capsys.readouterr().err
    assert f"  {seen}\n" in printed
    assert "log level" not in printed and "argo=true" not in printed


def test_names_with_plus_and_percent_are_found_again(api: Api) -> None:
    connection = connect()
    for name in ("a+b", "50%", "%41", "a b"):
        made = connection.experiment_id(name, create=True)
        assert made and connection.experiment_id(name) == made
    assert len(api.experiments) == 4


def test_following_outlives_an_outage_of_the_api(
    api: Api, compiled: Compiled, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.01)
    connection = connect()
    run_id = start(connection, compiled)
    api.scripts[run_id] = [with_tasks("RUNNING"), with_tasks("SUCCEEDED")]
    api.faults["GET", f"/runs/{run_id}"] = [FAIL_503, CUT, CUT, FAIL_503]
    assert runs.follow(connection, run_id) == 0
    assert capsys.readouterr().err.count("asking again") == 1


def test_following_gives_up_in_the_end_and_says_that_the_run_goes_on(
    api: Api, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(runs, "PATIENCE_SECONDS", 0.1)
    connection = connect()
    run_id = start(connection, compiled)
    api.faults["GET", f"/runs/{run_id}"] = [FAIL_503] * 1000
    with pytest.raises(UserError, match=rf"HTTP 503.*; the run {run_id} goes on"):
        runs.follow(connection, run_id)


def test_ctrl_c_leaves_the_run_going(api: Api, compiled: Compiled) -> None:
    run_id = start(connect(), compiled)
    code = (
        "import sys; sys.modules['rfc3987_syntax'] = None;"  # as tests/conftest.py
        f"from pipelines.cluster import connection, runs; exit(runs.follow(connection.connect(), {run_id!r}))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        until = time.monotonic() + 30
        while not any(path.endswith(run_id) for _, path, _ in api.requests) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "the run goes on" in printed and "Traceback" not in printed
    assert not [path for method, path, _ in api.requests if method != "GET" and run_id in path]


def test_runs_and_schedules_are_listed(
    api: Api, project: Path, compiled: Compiled, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.cluster.cron import parse_cron
    from pipelines.cluster.schedule import replace

    connection = connect()
    assert runs.show_runs(RECIPE, [], project) == 0
    assert "no runs yet" in capsys.readouterr().out
    ids = [start(connection, compiled) for _ in range(5)]  # more than a page of the server
    api.runs[ids[0]] |= {
        "state": "FAILED",
        "created_at": "2026-01-05T10:00:00Z",
        "finished_at": "2026-01-05T11:01:05Z",
    }
    replace(connection, compiled, parse_cron("0 0 3 * * *"))
    assert runs.show_runs(RECIPE, [], project) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[2:7]] == ids[::-1]
    assert re.search(rf"{ids[0]} .* failed +2026-01-05 10:00:00 +1:01:05", printed)
    assert re.search(rf"retrainer-{RECIPE} +0 0 3 \* \* \* +enabled +\d{{4}}-\d\d-\d\d 03:00:00", printed)


@pytest.mark.slow
def test_the_commands_themselves(api: Api, project: Path) -> None:
    """As make calls them, in processes of their own; nothing they say holds the token."""
    images = ["--image", IMAGES.full, "--secret", "mlflow"]

    def command(*words: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", words[0], "--recipe", RECIPE, *words[1:]],
            cwd=project,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert CANARY not in done.stdout + done.stderr and "Traceback" not in done.stderr
        return done.stdout + done.stderr

    api.changes["runs"] = with_tasks("FAILED", task("train", "FAILED"))
    assert "run" in command("submit", *images)
    assert "make replay" in command("submit", *images, "--wait", status=1)
    assert "did you mean '0 0 3 * * *'" in command("schedule", *images, "--cron", "0 3 * * *", status=2)
    assert "next" in command("schedule", *images, "--cron", "0 0 3 * * *")
    listed = command("runs")
    assert listed.count("failed") == 2 and "0 0 3 * * *" in listed
    assert "deleted" in command("unschedule")
    assert "cluster.mlflow_secret is empty" in command("submit", "--image", IMAGES.full, status=2)


def test_eight_submissions_at_once_are_eight_runs_of_one_experiment(api: Api, compiled: Compiled) -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.append(start(connect(), compiled))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == sorted(api.runs) and len(made) == 8
    assert len(api.experiments) == 1
