"""One table of commands: the parsers, `retrainer help`, tab completion and `make help` say the same."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipelines.__main__ import parser as pipelines_parser
from pipelines.containers.mlflow_image import parser as mlflow_image_parser
from retrainer import __main__ as command_line
from retrainer.commands import COMMANDS, GROUPS, OF_PROJECTS
from retrainer.completion import script
from tests.conftest import ROOT


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {o for action in parser._actions for o in action.option_strings if o.startswith("--")} - {"--help"}


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


def test_every_command_has_the_options_that_its_parser_takes() -> None:
    parsers = {("pipelines", name): made for name, made in subparsers(pipelines_parser()).items()}
    parsers |= {("retrainer", name): made for name, made in subparsers(command_line.parser()).items()}
    parsers["pipelines.containers.mlflow_image", "mlflow-image"] = mlflow_image_parser()
    for command in COMMANDS.values():
        if command.name not in ("push", "pull", "notify-test"):
            made = parsers.pop((command.module, command.name))
            assert options_of(made) == set(command.options), command.name
    assert set(parsers) == {("retrainer", name) for name in ("help", "completion", "notify")}


def test_make_help_says_the_same_in_the_same_groups() -> None:
    title, found = "", {}
    for line in (ROOT / "Makefile").read_text().splitlines():
        title = line.removeprefix("##@ ") if line.startswith("##@ ") else title
        if match := re.fullmatch(r"([a-z-]+):.*## (.*)", line):
            found[match[1]] = (title, match[2])
    for group, commands in GROUPS.items():
        for command in commands if group != OF_PROJECTS else ():
            assert found[command.name][0] == group, command.name
            assert found[command.name][1].startswith(command.help), command.name
    developing = {name for name, (group, _) in found.items() if group not in GROUPS}
    assert developing == set(found) - set(COMMANDS)


def test_help_lists_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main([]) == command_line.main(["help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS) and all(title in printed for title in GROUPS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in command_line.CALLS])
def test_what_the_library_cannot_do_the_project_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(os, "execve", lambda _, words, __: called.append(words) or 0)
    assert command_line.main([name, "--recipe", "mine"]) == 0
    assert called == [[sys.executable, "-m", *COMMANDS[name].words, "--recipe", "mine"]]
    assert find_spec(COMMANDS[name].words[0])


def test_outside_of_a_project_it_says_so(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "retrainer"]
    for asked, says in (
        (["pipeline"], r"pipeline: there is no dvc\.yaml here; run it in your project's root.*\n"),
        (["history"], r"history: params\.yaml does not exist; run in the project's root\n"),
        (["pipelin"], r"pipelin: no such command; did you mean 'pipeline'\?\n"),
    ):
        done = subprocess.run(
            [*words, *asked],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2 and re.fullmatch(says, done.stderr), done.stderr


@pytest.mark.parametrize("here", [True, False])
def test_the_installed_program_finds_the_plugins_of_the_project_here(
    here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `python -m retrainer` does; elsewhere no file of the folder can take the place of a package."""
    folder = ROOT if here else tmp_path
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", ["before"])
    monkeypatch.setattr(sys, "argv", ["retrainer", "help"])
    with pytest.raises(SystemExit) as ended:
        command_line.command_line()
    assert ended.value.code == 0 and sys.path == ([str(folder)] if here else []) + ["before"]


def test_the_wheel_has_the_command() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["retrainer"].partition(":")
    assert module == command_line.__name__ and callable(getattr(command_line, function))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["roll"], {"rollback"}),
        (["re"], {"retrain", "resolve", "rehearse", "replay", "reap"}),
        (["pipeline", "--"], {"--recipe", "--set"}),
        (["promote", "3", "--w"], {"--why"}),
        (["pipeline", "--recipe", "digits-m"], {"digits-mlp"}),
        (["pipeline", "--set", "training.learn"], {"training.learning_rate="}),
        (["step", "tr"], {"train"}),
        (["step", "st"], set()),
    ],
)
def test_bash_completes_what_is_typed(typed: list[str], offered: set[str]) -> None:
    words = " ".join(["retrainer", *typed])
    asked = f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _retrainer; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(
        ["bash", "-c", f"{script('bash')}\n{asked}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == offered and not done.stderr


def test_a_command_without_a_recipe_says_which_it_speaks_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    (tmp_path / "params.yaml").write_text("registry: {name: mine}\n")
    assert command_line.main(["history"]) == 0 and capsys.readouterr().err == "", "there is no other"
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "another.yaml").write_text("source: data\n")
    assert command_line.main(["history"]) == 0
    assert (
        capsys.readouterr().err == "recipe: mine, from params.yaml (RECIPE=… chooses another in recipes/)\n"
    )
    assert command_line.main(["history", "--recipe", "mine"]) == 0 and capsys.readouterr().err == ""


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["completion", "basch"]) == 2
    assert "did you mean 'bash'" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_ends_a_command_quietly() -> None:
    """As `| head` does."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "retrainer", "help"]
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(command, cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
