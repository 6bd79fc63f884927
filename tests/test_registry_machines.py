"""A registry that is a server: it knows no lock of another machine, and may die at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retrainer.registry.history import DONE, NOT_DONE, moves
from retrainer.services import lookup
from tests.champions import NAME, fill, own_environment, without_serving_check
from tests.mlflow_server import free_port, start_server
from tests.registry_crowds import MOVES, check_no_leftovers, check_true_history, crowd, registering
from tests.registry_workers import Job, meet, run, start, wait_for_others

pytestmark = [
    pytest.mark.release,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]


class Server:
    """A registry that knows no lock of another machine, and may be ended at any moment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = folder / "server.db"
        self._numbers = iter(range(1000))
        self.start()

    def start(self) -> None:
        self.process: subprocess.Popen[bytes] = start_server(self.folder, self.port)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def job(self, *do: str, **more: Any) -> Job:
        outcome = self.folder / f"outcome-{next(self._numbers)}"
        return Job(self.folder, do, outcome, self.uri, serving_check=False, **more)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        own_environment(patch, folder)
        without_serving_check(patch)
        made = Server(folder)
        patch.setenv("MLFLOW_TRACKING_URI", made.uri)
        try:
            project = fill(folder)
            for seed in (10, 11, 12, 13, 14):
                project.candidate(seed, "champion")
            yield made
        finally:
            made.kill()


@pytest.fixture
def served(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server with version 2 as its champion."""
    own_environment(monkeypatch, server.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert "done" in run(server.job("promote", "2", ""))
    return server


def test_a_crowd_registers_one_model_at_a_server(served: Server) -> None:
    jobs = [served.job(*registering(served.folder, 10, n)) for n in range(8)]
    seen = crowd(jobs, served.uri)
    (done,) = {job.told.get("done") for job in jobs}
    assert done.endswith(" champion")
    assert set(seen) == {"2", done.split()[0]}
    check_true_history()
    check_no_leftovers(served.database)


@pytest.mark.parametrize("other", ["rollback", "register"])
def test_of_two_machines_that_move_at_once_one_wins(served: Server, other: str, tmp_path: Path) -> None:
    """Both have decided against version 2, and neither has announced its move, when they meet."""
    before = len(moves(NAME))
    doing = registering(served.folder, 11) if other == "register" else MOVES[other]
    jobs = [
        served.job(*MOVES["promote"], meet=tmp_path, machine="one"),
        served.job(*doing, meet=tmp_path, machine="two"),
    ]
    seen = crowd(jobs, served.uri)
    (won,) = (job for job in jobs if "done" in job.told)
    (lost,) = (job.told["refused"] for job in jobs if job is not won)
    assert lost.endswith("run the same command again") and "\n" not in lost
    history = check_true_history()[before:]
    assert sorted((move.how, move.state) for move in history) == sorted(
        (job.do[0], DONE if job is won else NOT_DONE) for job in jobs
    )
    assert {"2"} < set(seen) <= {"2", *(move.to for move in history)}
    check_no_leftovers(served.database)


def test_two_machines_that_register_a_model_at_once_make_one_version(served: Server, tmp_path: Path) -> None:
    """Each has looked for a version and found none, and has its own ready to be made, when they meet."""
    before = len(moves(NAME))
    jobs = [
        served.job(
            *registering(served.folder, 14, number),
            meet=tmp_path,
            meet_before=("create_model_version", 1),
            machine=machine,
        )
        for number, machine in enumerate(("one", "two"))
    ]
    seen = crowd(jobs, served.uri)
    told = [job.told for job in jobs]
    (made,) = {one["done"] for one in told if "done" in one}
    assert made.endswith(" champion")
    for one in told:
        assert "done" in one or one["refused"].endswith("run the same command again")
    assert [(move.to, move.state) for move in check_true_history()[before:] if move.state == DONE] == [
        (made.split()[0], DONE)
    ]
    assert set(seen) == {"2", made.split()[0]}
    check_no_leftovers(served.database)


# The write before which the server dies, and who is champion then.
DEATHS = [
    ("promote", ("set_registered_model_tag", 1)),
    ("promote", ("set_registered_model_alias", 1)),
    ("promote", ("set_registered_model_tag", 2)),
    ("register", ("create_model_version", 1)),
    ("register", ("set_registered_model_alias", 1)),
]


@pytest.mark.parametrize(("kind", "write"), DEATHS)
def test_a_server_dies_in_the_middle(
    served: Server, kind: str, write: tuple[str, int], tmp_path: Path
) -> None:
    seed = 12 if write[0] == "create_model_version" else 13
    doing = registering(served.folder, seed) if kind == "register" else MOVES[kind]
    job = served.job(*doing, meet=tmp_path, meet_before=write)
    process = start(job)
    wait_for_others(tmp_path, 1)
    served.kill()
    meet(tmp_path)
    process.join(120)
    assert process.exitcode == 0
    assert (
        job.told["refused"].startswith(f"MLFLOW_TRACKING_URI={served.uri}")
        and "\n" not in job.told["refused"]
    )
    served.start()
    moved = write == ("set_registered_model_tag", 2)
    assert (lookup.state(NAME)[lookup.CHAMPION] == "2") != moved
    told = run(served.job(*doing))
    assert "done" in told, told
    assert check_true_history()[-1].state == DONE
    check_no_leftovers(served.database)
