"""The history as others may leave it: edited by hand, huge, out of order in time, of deleted versions."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from retrainer.__main__ import main
from retrainer.errors import UserError
from retrainer.registry import history, lock
from retrainer.registry.history import DONE, MOVING, PREFIX, moves, new_move, settle
from retrainer.registry.lock import registry_lock
from retrainer.registry.promote import promote, rollback
from retrainer.registry.register import register_model
from retrainer.services import lookup
from retrainer.services.connection import client
from retrainer.settings import Registry
from tests.champions import NAME, NET, Project, in_a_copy, own_environment

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]


@pytest.fixture
def project(three_versions: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return in_a_copy(three_versions, tmp_path, monkeypatch)


def entry(**change: Any) -> str:
    told = asdict(new_move(NAME, "promote", "2", "3", "", "champion")) | {"state": DONE} | change
    return json.dumps({field: text for field, text in told.items() if field != "key"})


KEY = f"{PREFIX}20990101T000000.000000-0123abcd"
NO_ENTRIES = {
    "no JSON": (KEY, "{"),
    "nothing": (KEY, " "),
    "a list": (KEY, "[]"),
    "deep": (KEY, "[" * 4900),
    "other fields": (KEY, '{"state": "done"}'),
    "one field more": (KEY, entry(more="x")),
    "a number for a word": (KEY, entry(why=7)),
    "null": (KEY, entry(before=None)),
    "another state": (KEY, entry(state="nearly")),
    "no version": (KEY, entry(to="3; drop")),
    "another script's digits": (KEY, entry(to="٣")),
    "no version before": (KEY, entry(before="two")),
    "another writer's key": (f"{PREFIX}zzz", entry()),
    "a key of no time": (f"{PREFIX}20991399T000000.000000-0123abcd", entry()),
    "a key without digits": (f"{PREFIX}20990101T000000.000000", entry()),
}


@pytest.mark.parametrize(("key", "value"), NO_ENTRIES.values(), ids=NO_ENTRIES)
def test_a_tag_that_is_no_entry_is_told_and_harms_nothing(
    project: Project,  # noqa: ARG001
    key: str,
    value: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client().set_registered_model_tag(NAME, key, value)
    assert [move.to for move in moves(NAME)] == ["1", "2"]
    assert main(["history"]) == 0
    printed = capsys.readouterr().out.splitlines()
    told = [line for line in printed if "hold no move" in line]
    assert told == [f"tags '{PREFIX}…' of 'net' that hold no move: 1; somebody edited them"]
    rollback(NAME, "")
    assert moves(NAME)[-1].to == lookup.state(NAME)["champion"] == "1"


def test_a_terminal_is_safe_from_what_an_entry_says(
    project: Project,  # noqa: ARG001
    capsys: pytest.CaptureFixture[str],
) -> None:
    client().set_registered_model_tag(NAME, KEY, entry(why="\x1b[2J\ud800red\n", who="a\x07nn"))
    promote(NAME, "3", "\x00" * 1000 + "\x1b]0;x" + "\udcff")
    assert main(["history"]) == 0
    printed = capsys.readouterr().out
    assert "[2Jred" in printed and "ann" in printed
    assert not [letter for letter in printed if letter != "\n" and not letter.isprintable()]
    assert moves(NAME)[-1].why == "]0;x (the gate was against it)"


def test_the_longest_reason_fits(project: Project) -> None:  # noqa: ARG001
    promote(NAME, "3", '"\\' * 5000)
    assert len(moves(NAME)[-1].why) == 1000


def test_a_clock_that_runs_backwards_does_not_turn_history_round(
    project: Project,  # noqa: ARG001
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last entry is of a machine whose clock is a year ahead."""
    ahead = new_move(NAME, "promote", "2", "1", "", "champion")
    later = f"{PREFIX}{datetime.now(UTC).year + 1}0101T000000.000000-ffffffff"
    mlflow = client()
    history._write(mlflow, NAME, replace(ahead, key=later, state=DONE))
    mlflow.set_registered_model_alias(NAME, "champion", "1")
    promote(NAME, "3", "")
    promote(NAME, "2", "")
    assert [move.to for move in moves(NAME)] == ["1", "2", "1", "3", "2"]
    rollback(NAME, "")
    assert lookup.state(NAME)["champion"] == "3"
    assert main(["history"]) == 0
    assert "another tool" not in capsys.readouterr().out


def test_what_this_process_left_is_not_waited_for(
    project: Project,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own move cannot be under way while it holds the lock: the server had died, say."""
    monkeypatch.setattr(history, "holds_for_all", lambda: False)
    mlflow = client()
    history._write(mlflow, NAME, new_move(NAME, "promote", "2", "3", "", ""))
    monkeypatch.setattr(history.time, "sleep", lambda _: pytest.fail("it waits"))
    settle(mlflow, NAME)
    assert MOVING not in {move.state for move in moves(NAME)}


def test_a_version_that_was_deleted_is_named(project: Project) -> None:  # noqa: ARG001
    mlflow = client()
    mlflow.delete_model_version(NAME, "1")
    with pytest.raises(
        UserError, match=r"^version 1, the champion of 'net' before version 2, was deleted; [^\n]*$"
    ):
        rollback(NAME, "")
    assert lookup.state(NAME)["champion"] == "2"
    mlflow.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(UserError, match=r"^'net' has no champion to take back; [^\n]*$"):
        rollback(NAME, "")
    promote(NAME, "3", "")
    assert lookup.state(NAME) == {"champion": "3", "challenger": None}


@pytest.mark.slow
def test_a_champion_is_never_deleted_whatever_its_tags_say(project: Project) -> None:
    """Registered again, a version that never served is replaced; but not the champion."""
    client().set_model_version_tag(NAME, "2", "verification", "failed")
    model = project.folder / "model-1"
    report = project.report(model, "champion")
    with pytest.raises(UserError, match=r"^models:/net/2 is champion, and its tag 'verification' [^\n]*$"):
        register_model(model, report, project.folder / "again", NET)
    assert lookup.state(NAME)["champion"] == "2"
    rollback(NAME, "")
    report = project.report(model, "champion")
    assert register_model(model, report, project.folder / "again", NET)["version"] == "4"


def test_a_move_made_while_a_person_s_was_decided_is_not_undone(
    project: Project,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the decision and the move, somebody makes another version champion in MLflow's own page."""
    from retrainer.registry import promote as module

    whole = module.proven

    def slow(name: str, version: str) -> Any:
        found = whole(name, version)
        client().set_registered_model_alias(NAME, "champion", "3")
        return found

    monkeypatch.setattr(module, "proven", slow)
    with pytest.raises(
        UserError, match=r"^the champion of 'net' changed meanwhile \(then version 2, now version 3"
    ):
        rollback(NAME, "")
    assert lookup.state(NAME)["champion"] == "3"
    assert moves(NAME)[-1].state == history.NOT_DONE


@pytest.mark.slow
def test_ten_thousand_entries_are_no_burden(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    import sqlite3

    many = 10_000
    ends = ("1", "2", "3")
    one = json.loads(entry(why="x" * 200))
    told = [
        (
            f"{PREFIX}20200101T{n // 3600:02}{n // 60 % 60:02}{n % 60:02}.000000-0123abcd",
            json.dumps(one | {"before": ends[n % 3], "to": ends[(n + 1) % 3]}),
        )
        for n in range(many)
    ]
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        query = "INSERT INTO registered_model_tags (workspace, name, key, value) VALUES ('default', ?, ?, ?)"
        database.executemany(query, [(NAME, key, value) for key, value in told])
    database.close()
    main(["history"])
    settle(client(), NAME)
    promote(NAME, "3", "")
    rollback(NAME, "")
    assert len(capsys.readouterr().out.splitlines()) >= many


def test_one_file_reached_by_a_link_has_one_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_environment(monkeypatch, tmp_path)
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/link.db").symlink_to(tmp_path / "mlflow.db")
    straight = lock._lock_file(NAME)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere/link.db")
    assert lock._lock_file(NAME) == straight


def test_a_lock_that_cannot_be_had_is_one_line_and_a_link_in_its_place_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_environment(monkeypatch, tmp_path)
    precious = tmp_path / "precious"
    precious.write_text("text")
    lock._lock_file(NAME).symlink_to(precious)
    with registry_lock(NAME):
        assert precious.read_text() == "text"
    lock._lock_file(NAME).unlink()
    lock._lock_file(NAME).mkdir()
    with (
        pytest.raises(UserError, match=r"^[^\n]*cannot be made or opened to lock 'net'[^\n]*$"),
        registry_lock(NAME),
    ):
        pass


@pytest.mark.parametrize(
    "name", ["a/b", "../x", "it's", "a b", "net\n", "ne\x00t", "", "x" * 201, "模型", "-x"]
)
def test_a_name_with_odd_characters_is_refused_where_it_is_set(name: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]*registry.name[^\n]*$"):
        Registry.parse({"name": name}, "registry")
    assert os.sep not in Registry.parse({"name": "x" * 200}, "registry").name
