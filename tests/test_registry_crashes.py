"""The registry under crowds and crashes: at every moment one champion, and a history that is true."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from retrainer.predict import Predictor
from retrainer.registry.history import DONE, MOVING, NOT_DONE, Move, moves
from retrainer.services import lookup
from retrainer.services.readers import MODEL_SHA256, reader_of
from tests.champions import NAME, Project, fill, in_a_copy, own_environment
from tests.mlflow_server import free_port, start_server
from tests.registry_workers import Job, meet, run, start, wait_for_others

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]

DATABASE = "mlflow.db"
# Models that wait for registration: the gate is for the first two.
WAITING = {10: "champion", 11: "champion", 12: "challenger", 13: "challenger", 14: "challenger"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Version 2 is champion, 1 was it before, 3 is challenger; the models of WAITING are judged."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        own_environment(patch, folder)
        made = fill(folder)
        for seed, verdict in WAITING.items():
            made.candidate(seed, verdict)
        return made


@pytest.fixture
def project(base: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    return in_a_copy(base, folder, monkeypatch)


@pytest.fixture
def fresh(base: Project, tmp_path: Path) -> Iterator[Any]:
    """Makes copies of the base, the last of them the current directory."""
    with pytest.MonkeyPatch.context() as patch:
        numbers = iter(range(1000))

        def copy() -> Project:
            folder = tmp_path / f"copy-{next(numbers)}"
            folder.mkdir()
            return in_a_copy(base, folder, patch)

        yield copy


def registering(folder: Path, seed: int, number: int = 0) -> tuple[str, ...]:
    return ("register", f"model-{seed}", f"model-{seed}-report", str(folder / f"registered-{seed}-{number}"))


@contextmanager
def watched(uri: str) -> Iterator[Counter[str]]:
    """Counts which version is champion (or "none") while the block runs, as often as it can be asked."""
    seen: Counter[str] = Counter()
    over = threading.Event()

    def look() -> None:
        reader = reader_of(uri)
        while not over.is_set():
            found = reader.by_alias(NAME, lookup.CHAMPION)
            seen[found.version if found else "none"] += 1
            time.sleep(0.002)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def here() -> str:
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def check_true_history() -> list[Move]:
    """Every move that was done starts where the one before ended, and the last ends at the champion."""
    told = moves(NAME)
    done = [move for move in told if move.state == DONE]
    at = ""
    for move in done:
        assert move.before == at, told
        at = move.to
    state = lookup.state(NAME)
    assert state[lookup.CHAMPION] == at, told
    assert state[lookup.CHALLENGER] != at, "the champion is not its own challenger"
    assert MOVING not in {move.state for move in told}
    return told


def check_no_leftovers(file: Path) -> None:
    """One usable version a model, and no part of MLflow's that belongs to none."""
    with sqlite3.connect(file) as database:
        ask = lambda query: [row[0] for row in database.execute(query)]  # noqa: E731
        alive = "FROM model_versions v WHERE v.current_stage != 'Deleted_Internal'"
        tag = "(SELECT value FROM model_version_tags t WHERE t.name = v.name AND t.version = v.version"
        models = ask(f"SELECT {tag} AND t.key = '{MODEL_SHA256}') {alive}")
        proven = ask(f"SELECT {tag} AND t.key = 'verification') {alive}")
        half = ask("SELECT count(*) FROM logged_models WHERE lifecycle_stage = 'active'")
    database.close()
    assert len(models) == len(set(models)), models
    assert set(proven) == {"passed"}
    assert half == [len(models)], "logged models without a version"


def crowd(jobs: list[Job], uri: str) -> Counter[str]:
    """Runs all of them at once; who was champion meanwhile."""
    with watched(uri) as seen:
        processes = [start(job) for job in jobs]
        for process in processes:
            process.join(300)
    assert [process.exitcode for process in processes] == [0] * len(jobs)
    return seen


def test_fifty_processes_register_one_model(project: Project) -> None:
    folder = project.folder
    jobs = [Job(folder, registering(folder, 10, n), folder / f"outcome-{n}") for n in range(50)]
    seen = crowd(jobs, here())
    assert {job.told.get("done") for job in jobs} == {"4 champion"}
    assert set(seen) == {"2", "4"} and seen.total() > 100
    assert [(move.before, move.to) for move in check_true_history()] == [("", "1"), ("1", "2"), ("2", "4")]
    check_no_leftovers(folder / DATABASE)


def test_fifty_processes_register_five_models(project: Project) -> None:
    """Two of them shall be champion: the first wins, and all who were judged against the old one are told."""
    folder = project.folder
    seeds = [seed for _ in range(10) for seed in (12, 13, 10, 14, 11)]
    jobs = [Job(folder, registering(folder, s, n), folder / f"outcome-{n}") for n, s in enumerate(seeds)]
    seen = crowd(jobs, here())
    told = {seed: [job.told for job, s in zip(jobs, seeds, strict=True) if s == seed] for seed in WAITING}
    champion = lookup.by_alias(NAME, "champion")
    assert champion is not None and set(seen) == {"2", champion.version}
    for seed, outcomes in told.items():
        done = {outcome["done"] for outcome in outcomes if "done" in outcome}
        sha256 = Predictor.load(folder / f"model-{seed}").model_sha256
        assert len(done) == len(lookup.versions_of(NAME, sha256)) <= 1
        for line in (outcome["refused"] for outcome in outcomes if "refused" in outcome):
            assert line.startswith("the champion of 'net' changed since evaluate judged") and "\n" not in line
    winners = [seed for seed in (10, 11) if any("done" in outcome for outcome in told[seed])]
    assert len(winners) == 1 and all("done" in outcome for outcome in told[winners[0]])
    assert len(check_true_history()) == 3
    check_no_leftovers(folder / DATABASE)


MOVES: dict[str, tuple[str, ...]] = {
    "promote": ("promote", "3", "by hand"),
    "rollback": ("rollback", "too slow"),
}
ENDS = {"promote": "3", "rollback": "1", "register": "4"}


def action(kind: str, folder: Path) -> tuple[str, ...]:
    return MOVES[kind] if kind in MOVES else registering(folder, 10)


def check_after_kill(kind: str, folder: Path) -> str:
    """Old or new champion, and never none; the same command again completes. Returns who it was."""
    after = lookup.state(NAME)[lookup.CHAMPION]
    assert after in ("2", ENDS[kind])
    if kind == "rollback" and after == ENDS[kind]:
        # Done already; to roll back once more would be another move.
        job = Job(folder, ("promote", "2", ""), folder / "again")
        assert "done" in run(job)
        assert [(move.how, move.state) for move in check_true_history()[2:]] == [
            ("rollback", DONE),
            ("promote", DONE),
        ]
        return after
    told = run(Job(folder, action(kind, folder), folder / "again"))
    assert "done" in told, told
    assert lookup.state(NAME)[lookup.CHAMPION] == ENDS[kind]
    history = check_true_history()
    assert [move.to for move in history if move.state == DONE] == ["1", "2", ENDS[kind]]
    assert all(move.to == ENDS[kind] for move in history if move.state == NOT_DONE)
    check_no_leftovers(folder / DATABASE)
    return str(after)


@pytest.mark.parametrize("kind", ["promote", "rollback", "register"])
def test_killed_before_and_after_each_write(kind: str, fresh: Any) -> None:
    project = fresh()
    writes = run(Job(project.folder, action(kind, project.folder), project.folder / "whole"))["writes"]
    # What comes before the version are runs of MLflow's; test_tracking knows of those.
    first = writes.index("create_logged_model") if kind == "register" else 0
    met = []
    for number, write in enumerate(writes[first:], start=first + 1):
        # The word "after" says more only where others look at once.
        for death in ("die_before", "die_after")[: 1 + write.startswith("set_registered")]:
            project = fresh()
            job = Job(
                project.folder, action(kind, project.folder), project.folder / "dead", **{death: number}
            )
            with watched(here()) as seen:
                process = start(job)
                process.join(120)
                assert process.exitcode == -signal.SIGKILL
                met.append(check_after_kill(kind, project.folder))
            assert set(seen) <= {"2", ENDS[kind]}
    assert set(met) == {"2", ENDS[kind]}, "killed on both sides of the move"


@pytest.mark.parametrize(("kind", "kills"), [("promote", 8), ("rollback", 6), ("register", 6)])
def test_killed_at_random_moments(kind: str, kills: int, fresh: Any) -> None:
    project = fresh()
    began = time.monotonic()
    run(Job(project.folder, action(kind, project.folder), project.folder / "whole"))
    whole = time.monotonic() - began
    draw = random.Random(f"kill {kind}")
    for number in range(kills):
        project = fresh()
        with watched(here()) as seen:
            process = start(Job(project.folder, action(kind, project.folder), project.folder / "dead"))
            # One in each part of the duration.
            time.sleep(whole * (number + draw.random()) / kills)
            process.kill()
            process.join()
            check_after_kill(kind, project.folder)
        assert set(seen) <= {"2", ENDS[kind]}


def test_promoting_while_it_registers_is_one_after_the_other(project: Project) -> None:
    folder = project.folder
    promoting = Job(folder, MOVES["promote"], folder / "promoted")
    register = Job(folder, registering(folder, 10), folder / "registered")
    seen = crowd([register, promoting], here())
    assert "done" in promoting.told
    refused = register.told.get("refused", "the champion of 'net' changed since evaluate judged")
    assert refused.startswith("the champion of 'net' changed since evaluate judged") and "\n" not in refused
    assert set(seen) <= {"2", "3", "4"}
    check_true_history()


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
        return Job(self.folder, do, self.folder / f"outcome-{next(self._numbers)}", self.uri, **more)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        own_environment(patch, folder)
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
