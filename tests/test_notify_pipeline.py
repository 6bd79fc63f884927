"""`make pipeline` and its webhook, for real: what each kind of end tells, and that none depends on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import webhook_server as ways
from tests.project import RECIPE, copied, environment, steps
from tests.webhook_server import CANARY, Server, receiver

pytestmark = [pytest.mark.release, pytest.mark.timeout(600)]  # eight runs of the pipeline


@pytest.fixture
def chat() -> Iterator[Server]:
    with receiver() as server:
        yield server


@pytest.fixture
def project(finished_project: Path, tmp_path: Path) -> Path:
    """Trained and judged, and its registry gone: the next run registers."""
    project = copied(finished_project, tmp_path / "project")
    for file in project.glob("mlflow.db*"):
        file.unlink()
    return project


def command(*settings: str) -> list[str]:
    chosen = [word for pair in settings for word in ("--set", pair)]
    return [sys.executable, "-m", "pipelines", "pipeline", "--recipe", RECIPE, *chosen]


def told(project: Path, chat: Server, *settings: str, status: int = 0) -> tuple[str, list[dict[str, object]]]:
    """What a run printed, and what the chat was told meanwhile."""
    chat.got.clear()
    away = {"RETRAINER_WEBHOOK": chat.url, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        command(*settings), cwd=project, env=environment() | away, capture_output=True, text=True, timeout=280
    )
    printed = done.stdout + done.stderr
    assert done.returncode == status, printed
    assert CANARY not in printed
    for path in (*(project / ".run").rglob("*"), *(project / ".undelivered").rglob("*")):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes(), path
    return printed, list(chat.got)


def test_every_end_of_a_run_is_told(project: Path, chat: Server) -> None:
    printed, bodies = told(project, chat)
    assert "s\nwebhook: 'promoted' was delivered\n" in printed, "below the closing table"
    (body,) = bodies
    assert (body["event"], body["recipe"], body["version"], body["champion"]) == (
        "promoted",
        RECIPE,
        "1",
        "1",
    )
    assert body["link"] is None and body["kfp_run_id"] is None and float(str(body["seconds"])) > 0
    assert "across" not in str(bodies), "a class"

    printed, bodies = told(project, chat)
    assert printed.startswith("Nothing to do") and not bodies and "webhook" not in printed

    printed, bodies = told(project, chat, "training.strategy=full", status=1)
    assert [(b["event"], b["step"], b["exit_status"]) for b in bodies] == [("failed", "train", 2)]
    assert "webhook: 'failed' was delivered" in printed

    _, bodies = told(project, chat, "training.epoch=1", status=2)
    assert [(b["event"], b["step"], b["exit_status"]) for b in bodies] == [("failed", None, 2)]

    chat.way = ways.status(404)
    printed, bodies = told(project, chat, "gate.alpha=0.1")
    assert "webhook: 'nothing-new' was not delivered (HTTP 404); kept in .undelivered/" in printed
    chat.way = ways.taken
    printed, late = told(project, chat, "gate.alpha=0.1")
    assert printed.startswith("Nothing to do") and "webhook: older ones delivered: 1" in printed
    assert [body["id"] for body in late] == [body["id"] for body in bodies]
    assert (late[0]["event"], late[0]["step"], late[0]["version"]) == ("nothing-new", "register", "1")
    check_that_a_killed_run_is_told_by_the_next_one(project, chat)


def check_that_a_killed_run_is_told_by_the_next_one(project: Path, chat: Server) -> None:
    process = subprocess.Popen(
        command("training.seed=7"), cwd=project, env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "train" in steps(line):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()
    _, bodies = told(project, chat)
    assert [(body["event"], body["cause"]) for body in bodies][:1] == [("failed", "killed")]
