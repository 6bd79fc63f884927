"""The registry under crowds and crashes: at every moment one champion, and a history that is true."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retrainer.predict import Predictor
from retrainer.registry.history import DONE, NOT_DONE
from retrainer.services import lookup
from tests.champions import NAME, Project, in_a_copy
from tests.conftest import first_in_ci
from tests.registry_crowds import MOVES, check_no_leftovers, check_true_history, crowd, registering, watched
from tests.registry_workers import Job, run, start

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
def base(three_versions: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Version 2 is champion, 1 was it before, 3 is challenger; the models of WAITING are judged."""
    with pytest.MonkeyPatch.context() as patch:
        made = in_a_copy(three_versions, tmp_path_factory.mktemp("base"), patch)
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


def here() -> str:
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}"


@pytest.mark.parametrize("count", first_in_ci([12, 25]))
def test_a_crowd_of_processes_registers_one_model(project: Project, count: int) -> None:
    folder = project.folder
    jobs = [Job(folder, registering(folder, 10, n), folder / f"outcome-{n}") for n in range(count)]
    seen = crowd(jobs, here())
    assert {job.told.get("done") for job in jobs} == {"4 champion"}
    assert set(seen) == {"2", "4"} and seen.total() > 2 * count
    assert [(move.before, move.to) for move in check_true_history()] == [("", "1"), ("1", "2"), ("2", "4")]
    check_no_leftovers(folder / DATABASE)


@pytest.mark.release
def test_a_crowd_of_processes_registers_five_models(project: Project) -> None:
    """Two of them shall be champion: the first wins, and all who were judged against the old one are told."""
    folder = project.folder
    seeds = [seed for _ in range(5) for seed in (12, 13, 10, 14, 11)]
    # The crowd that registers one model is checked.
    jobs = [
        Job(folder, registering(folder, seed, n), folder / f"outcome-{n}", serving_check=False)
        for n, seed in enumerate(seeds)
    ]
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


ENDS = {"promote": "3", "rollback": "1", "register": "4"}


def action(kind: str, folder: Path) -> tuple[str, ...]:
    return MOVES[kind] if kind in MOVES else registering(folder, 10)


def check_after_kill(kind: str, folder: Path, serving_check: bool = True) -> str:
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
    told = run(Job(folder, action(kind, folder), folder / "again", serving_check=serving_check))
    assert "done" in told, told
    assert lookup.state(NAME)[lookup.CHAMPION] == ENDS[kind]
    history = check_true_history()
    assert [move.to for move in history if move.state == DONE] == ["1", "2", ENDS[kind]]
    assert all(move.to == ENDS[kind] for move in history if move.state == NOT_DONE)
    check_no_leftovers(folder / DATABASE)
    return str(after)


@pytest.mark.parametrize("kind", ["promote", "rollback", pytest.param("register", marks=pytest.mark.release)])
def test_killed_before_and_after_each_write(kind: str, fresh: Any) -> None:
    project = fresh()
    # The serving check writes nothing, and is killed at random moments.
    doing, out = action(kind, project.folder), project.folder / "whole"
    writes = run(Job(project.folder, doing, out, serving_check=False))["writes"]
    # What comes before the version are runs of MLflow's; test_tracking knows of those.
    first = writes.index("create_logged_model") if kind == "register" else 0
    met = []
    for number, write in enumerate(writes[first:], start=first + 1):
        if number > first + 1 and write == writes[number - 2]:
            continue  # of equal writes in a row the first stands for all
        # The word "after" says more only where others look at once.
        for death in ("die_before", "die_after")[: 1 + write.startswith("set_registered")]:
            project = fresh()
            doing, out = action(kind, project.folder), project.folder / "dead"
            job = Job(project.folder, doing, out, serving_check=False, **{death: number})
            with watched(here()) as seen:
                process = start(job)
                process.join(120)
                assert process.exitcode == -signal.SIGKILL
                met.append(check_after_kill(kind, project.folder, serving_check=False))
            assert set(seen) <= {"2", ENDS[kind]}
    assert set(met) == {"2", ENDS[kind]}, "killed on both sides of the move"


@pytest.mark.parametrize(
    ("kind", "kills"), first_in_ci([("register", 2), ("promote", 4), ("rollback", 4), ("register", 4)])
)
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
