"""What counts as a user's own code: an edit of any of it must be noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from retrainer.code import own
from retrainer.code.modules import Modules
from retrainer.errors import UserError

FILES = (
    "my_train.py",
    "helpers.py",
    "mylib/__init__.py",
    "mylib/deep/part.py",
    "plugins/shared.py",
    "trainers/run.py",
    "trainers/parts/loss.py",
    "train.yaml",
)


def command_digest(command: str, root: Path) -> str:
    return own.command_digest(command, root, Modules({}))


def plugin_digest(name: str) -> str:
    return own.plugin_digest(name, Modules({}))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("first")
    return tmp_path


AT_THE_ROOT = {"my_train.py", "helpers.py", "mylib/__init__.py", "mylib/deep/part.py", "plugins/shared.py"}
IN_A_FOLDER = {"trainers/run.py", "trainers/parts/loss.py", "plugins/shared.py"}


@pytest.mark.parametrize(
    ("command", "counted"),
    [
        ("python my_train.py --fast", AT_THE_ROOT),
        ("python -m my_train", AT_THE_ROOT),
        ("torchrun --nproc-per-node 2 my_train.py", AT_THE_ROOT),
        ("python trainers/run.py --config=train.yaml", IN_A_FOLDER | {"train.yaml"}),
        ("python3 -u -m trainers.run train.yaml", IN_A_FOLDER | {"train.yaml"}),
    ],
)
def test_an_edit_of_what_a_trainer_runs_is_noticed_and_of_nothing_else(
    checkout: Path, command: str, counted: set[str]
) -> None:
    before = command_digest(command, checkout)
    noticed = set()
    for name in FILES:
        (checkout / name).write_text("second")
        if command_digest(command, checkout) != before:
            noticed.add(name)
        (checkout / name).write_text("first")
    assert (len(before), noticed) == (64, counted)


def test_a_comment_in_a_trainer_does_not_count_and_a_space_in_its_settings_does(checkout: Path) -> None:
    command = "python trainers/run.py --config=train.yaml"
    before = command_digest(command, checkout)
    (checkout / "trainers/run.py").write_text("# a comment\nfirst\n")
    assert command_digest(command, checkout) == before
    (checkout / "trainers/run.py").write_text("this is not Python")
    assert len({before, command_digest(command, checkout)}) == 2
    (checkout / "trainers/run.py").write_text("first")
    (checkout / "train.yaml").write_text("first ")
    assert command_digest(command, checkout) != before


def test_the_digest_of_a_trainer_is_the_same_in_every_checkout(checkout: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(checkout, moved)
    assert command_digest("python my_train.py", moved) == command_digest("python my_train.py", checkout)


def test_a_renamed_file_is_noticed(checkout: Path) -> None:
    before = command_digest("python trainers/run.py", checkout)
    (checkout / "trainers/parts/loss.py").rename(checkout / "trainers/parts/cost.py")
    assert command_digest("python trainers/run.py", checkout) != before


def test_an_installed_trainer_counts_with_its_whole_package(tmp_path: Path) -> None:
    assert len(command_digest("python -m pip.sub", tmp_path)) == 64


@pytest.mark.parametrize("command", ["python -c 'print(1)'", "no-such-program", "python -m no_such_module"])
def test_a_trainer_whose_code_cannot_be_found_is_refused(checkout: Path, command: str) -> None:
    with pytest.raises(UserError, match=r"training\.command: .*`python -m package\.module`"):
        command_digest(command, checkout)


def test_a_command_that_does_not_end_is_told(checkout: Path) -> None:
    with pytest.raises(UserError, match=r"training\.command: .*cannot be split"):
        command_digest("python 'my_train.py", checkout)


def test_every_file_of_a_plugins_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in (
        "packed_plugins/tasks/mine.py",
        "packed_plugins/shared.py",
        "packed_plugins/tasks/deep/other.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("first")
    before = plugin_digest("packed_plugins.tasks.mine")
    assert len(before) == 64
    (tmp_path / "packed_plugins/shared.py").write_text("second")
    assert plugin_digest("packed_plugins.tasks.mine") != before
    assert plugin_digest("text_classification") == ""
