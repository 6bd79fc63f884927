"""The registry's memory: who made which version champion and why; promoting and rolling back by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from retrainer.__main__ import main
from retrainer.errors import UserError
from retrainer.registry import history
from retrainer.registry.history import DONE, MOVING, NOT_DONE, champion_stack, move_champion, moves, new_move
from retrainer.registry.promote import promote, rollback
from retrainer.registry.register import register_model
from retrainer.services import lookup
from retrainer.services.connection import client
from tests.champions import (
    NAME,
    NET,
    Project,
    files_of,
    fill,
    in_a_copy,
    own_environment,
    without_serving_check,
)
from tests.conftest import ROOT
from tests.mlflow_server import running_server

# MLflow's own queries, seen by a newer SQLAlchemy; and what it warns itself of while it is imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]


@pytest.fixture
def project(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return in_a_copy(three_versions, tmp_path, monkeypatch)


def told() -> list[tuple[str, str, str, str]]:
    return [(move.how, move.before, move.to, move.state) for move in moves(NAME)]


REGISTERED = [("register", "", "1", DONE), ("register", "1", "2", DONE)]


def test_registration_is_remembered(project: Project) -> None:  # noqa: ARG001
    assert told() == REGISTERED
    first, second = moves(NAME)
    assert first.why == "the first version, so there is none to compare it with"
    assert "@" in first.who
    assert first.when <= second.when
    assert first.verdict == second.verdict == "champion"
    assert lookup.state(NAME) == {"champion": "2", "challenger": "3"}


def test_a_person_promotes_and_rolls_back_step_by_step(
    project: Project,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GITHUB_RUN_ID", "77")
    monkeypatch.setenv("GITHUB_ACTOR", "ann")
    assert main(["promote", "3", "--why", "customers asked\nfor it"]) == 0
    assert capsys.readouterr().out.startswith("version 3 is champion of 'net' (version 2 was; ")
    assert lookup.state(NAME) == {"champion": "3", "challenger": None}
    move = moves(NAME)[-1]
    assert (move.how, move.who) == ("promote", "ann (GitHub Actions run 77)")
    assert (move.why, move.verdict) == ("customers asked for it (the gate was against it)", "challenger")
    assert main(["promote", "3"]) == 0
    assert "version 3 is champion of 'net' already" in capsys.readouterr().out

    assert main(["rollback", "--why", "too slow"]) == 0
    assert lookup.state(NAME)["champion"] == "2"
    assert main(["rollback"]) == 0
    assert lookup.state(NAME)["champion"] == "1"
    capsys.readouterr()
    assert main(["rollback"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    expected = [("promote", "2", "3", DONE), ("rollback", "3", "2", DONE), ("rollback", "2", "1", DONE)]
    assert told() == [*REGISTERED, *expected]

    assert main(["history"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[1:-1]] == [how for how, *_ in told()]
    assert "too slow" in lines[-3]
    assert lines[-1] == "now: champion 1, challenger none"


def test_the_command_history_imports_nothing_heavy(project: Project) -> None:
    heavy = "print([m for m in ('mlflow', 'numpy', 'pandas', 'torch', 'psutil') if m in sys.modules])"
    code = f"import sys; from retrainer.__main__ import main; main(['history']); {heavy}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=project.folder, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_only_what_was_judged_and_proven_is_promoted(project: Project) -> None:  # noqa: ARG001
    mlflow = client()
    sha = {"model_sha256": "a" * 64}
    judged = sha | {"verdict": "champion", "evaluation_run_id": "x"}
    for tags in ({}, sha | {"verification": "passed"}, judged, judged | {"verification": "failed"}):
        mlflow.create_model_version(NAME, "runs:/abc/model", tags=tags)
    for version, reason in (
        ("99", "there is no such version"),
        ("4", "was not registered by retrainer"),
        ("5", "was never evaluated"),
        ("6", "was never proven to serve"),
        ("7", "was never proven to serve"),
    ):
        with pytest.raises(UserError, match=f"^models:/net/{version}:? {reason}[^\n]*$"):
            promote(NAME, version, "")
    for nonsense in ("two", "", "3; drop", "-1", "٣"):
        assert main(["promote", "--", nonsense]) == 2
    assert told() == REGISTERED
    assert lookup.state(NAME) == {"champion": "2", "challenger": "3"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


TAMPERED: dict[str, Callable[[Path], object]] = {
    "a flipped byte in the weights": lambda files: flip(files / "artifacts/model/model.safetensors"),
    "a removed file": lambda files: (files / "artifacts/model/history.json").unlink(),
    "an added file": lambda files: (files / "artifacts/model/more.txt").write_text("x"),
    "no manifest": lambda files: (files / "artifacts/model/manifest.json").unlink(),
    "all gone": lambda files: shutil.rmtree(files),
    "other code": lambda files: (files / "code/retrainer/predict.py").write_text("import os"),
    "another entry": lambda files: (files / "served.py").write_text("import os"),
    "another MLmodel": lambda files: flip(files / "MLmodel"),
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_an_altered_version_is_never_made_champion(
    project: Project,  # noqa: ARG001
    change: Callable[[Path], object],
) -> None:
    change(files_of("3"))
    with pytest.raises(UserError, match=r"^[^\n]*(altered|gone|missing|does not belong)[^\n]*$"):
        promote(NAME, "3", "")
    change(files_of("1"))
    with pytest.raises(UserError, match=r"^[^\n]*(altered|gone|missing|does not belong)[^\n]*$"):
        rollback(NAME, "")
    assert told() == REGISTERED
    assert lookup.state(NAME) == {"champion": "2", "challenger": "3"}


def test_another_models_files_in_its_place_are_refused(project: Project) -> None:  # noqa: ARG001
    shutil.rmtree(files_of("3") / "artifacts/model")
    shutil.copytree(files_of("1") / "artifacts/model", files_of("3") / "artifacts/model")
    with pytest.raises(UserError, match="was altered: it holds"):
        promote(NAME, "3", "")


def test_what_loading_a_registered_model_leaves_beside_it_is_no_alteration(project: Project) -> None:  # noqa: ARG001
    cache = files_of("3") / "code/retrainer/__pycache__"
    cache.mkdir()
    (cache / "predict.cpython-311.pyc").write_bytes(b"x")
    promote(NAME, "3", "")
    assert lookup.state(NAME)["champion"] == "3"


def test_the_gate_does_not_take_back_what_a_person_did(project: Project) -> None:
    rollback(NAME, "it was rude to customers")
    model = project.folder / "model-1"
    made = register_model(model, project.report(model), project.folder / "again", NET)
    assert (made["version"], made["alias"]) == ("2", "challenger")
    assert lookup.state(NAME) == {"champion": "1", "challenger": "2"}
    assert "(make rollback: it was rude to customers)" in made["reasons"][0]
    promote(NAME, "2", "")
    assert lookup.state(NAME) == {"champion": "2", "challenger": None}


def test_a_crash_before_or_after_the_alias_moved_is_settled_by_the_next(project: Project) -> None:  # noqa: ARG001
    mlflow = client()
    for to, moved, state in (("1", False, NOT_DONE), ("1", True, DONE)):
        left = new_move(NAME, "promote", "2", to, "", "champion")
        history._write(mlflow, NAME, left)
        if moved:
            mlflow.set_registered_model_alias(NAME, "champion", to)
        promote(NAME, "3", "")
        found = {move.key: move.state for move in moves(NAME)}
        assert found[left.key] == state
        assert MOVING not in found.values()
        promote(NAME, "2", "")


def test_of_two_machines_that_move_the_alias_one_succeeds(
    project: Project,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lock of this machine does not hold another one, so here it is not taken."""
    monkeypatch.setattr(history, "holds_for_all", lambda: False)
    monkeypatch.setattr(history, "PATIENCE_SECONDS", 1.0)
    mlflow = client()
    # Both have written their entries, and read each other's: the first withdraws the second.
    first, second = (new_move(NAME, "promote", "2", to, "", "champion") for to in ("1", "3"))
    first = replace(first, who="ann@far", process="far:1:1")
    history._write(mlflow, NAME, first)
    with pytest.raises(UserError, match=r"ann@far is moving the champion of 'net' to version 1 at this mom"):
        move_champion(mlflow, NAME, second)
    assert lookup.state(NAME)["champion"] == "2"
    move_champion(mlflow, NAME, first)
    assert lookup.state(NAME)["champion"] == "1"
    assert told()[-2:] == [("promote", "2", "1", DONE), ("promote", "2", "3", NOT_DONE)]
    # A later entry is waited for; that machine never answers, so it counts as crashed.
    mine = new_move(NAME, "promote", "1", "2", "", "champion")
    silent = replace(new_move(NAME, "promote", "1", "3", "", "champion"), process="far:2:2")
    history._write(mlflow, NAME, silent)
    move_champion(mlflow, NAME, mine)
    assert told()[-2:] == [("promote", "1", "2", DONE), ("promote", "1", "3", NOT_DONE)]
    # Whoever was taken for crashed finds out before the move.
    with pytest.raises(UserError, match="changed meanwhile"):
        move_champion(mlflow, NAME, new_move(NAME, "promote", "1", "3", "", "champion"))
    assert lookup.state(NAME)["champion"] == "2"


def test_a_move_by_another_tool_is_told_and_can_be_rolled_back(
    project: Project,  # noqa: ARG001
    capsys: pytest.CaptureFixture[str],
) -> None:
    client().set_registered_model_alias(NAME, "champion", "3")
    assert main(["history"]) == 0
    assert "another tool moved it since" in capsys.readouterr().out
    rollback(NAME, "")
    assert lookup.state(NAME)["champion"] == "2"


def test_rollback_is_a_stack() -> None:
    def entries(*told: tuple[str, str, str]) -> list[history.Move]:
        return [replace(new_move(NAME, "register", a, b, "", ""), how=how, state=DONE) for how, a, b in told]

    first = (("register", "", "1"), ("register", "1", "2"), ("promote", "2", "3"))
    back = (("rollback", "3", "2"),)
    assert champion_stack(entries(*first), "3") == ["1", "2", "3"]
    assert champion_stack(entries(*first, *back), "2") == ["1", "2"]
    assert champion_stack(entries(*first, *back, ("register", "2", "4")), "4") == ["1", "2", "4"]
    assert champion_stack(entries(*first, *back, ("rollback", "2", "1")), "1") == ["1"]
    assert champion_stack(entries(("register", "4", "5")), "5") == ["4", "5"], "older than the history"
    assert champion_stack(entries(*first), "7") == ["1", "2", "3", "7"], "moved by another tool"
    lost = [replace(move, state=NOT_DONE) for move in entries(*back)]
    assert champion_stack([*entries(*first), *lost], "3") == ["1", "2", "3"]


@pytest.mark.release
def test_a_server_remembers_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_environment(monkeypatch, tmp_path)
    without_serving_check(monkeypatch)
    (tmp_path / "server").mkdir()
    with running_server(tmp_path / "server") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        fill(tmp_path)
        assert told() == REGISTERED
        promote(NAME, "3", "by hand")
        rollback(NAME, "")
        assert told()[2:] == [("promote", "2", "3", DONE), ("rollback", "3", "2", DONE)]
        assert lookup.state(NAME) == {"champion": "2", "challenger": None}
        first = lookup.by_version(NAME, "1")
        assert first is not None
        model_id = first.source.removeprefix("models:/")
        (weights,) = (tmp_path / "server/files").rglob(f"{model_id}/**/model.safetensors")
        flip(weights)
        with pytest.raises(UserError, match="was altered"):
            rollback(NAME, "")
        assert lookup.state(NAME)["champion"] == "2"
