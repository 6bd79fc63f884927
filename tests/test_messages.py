"""A program that uses the library decides what is heard of it; a command line prints it all."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from retrainer.messages import logger, printed_messages
from retrainer.services.checkpoint_store import CheckpointPlace
from retrainer.training.checkpoints import Checkpoints
from tests.conftest import ROOT
from tests.imports import modules, text, tree

DIGEST = "d" * 64
DAMAGED = f"000001-000000002-{'a' * 64}.pt"
# They answer a person's command, show the progress that was asked for, or say how the process ends.
PRINTING = {
    "retrainer.__main__",
    "retrainer.calls",
    "retrainer.services.mlflow_ui",
    "retrainer.default_recipe",
    "retrainer.doctor",
    "retrainer.registry.commands",
    "retrainer.notify.command",
    "retrainer.batch_prediction.progress",
    "retrainer.search.command",
    "retrainer.serving.command",
    "retrainer.serving.server",
    "retrainer.export.use_me",  # it travels with an export, as a program of its own
    "retrainer.registry.use_me",  # and this one with a registered version
}
PRINTING |= {f"retrainer.training.{name}" for name in ("_progress", "_stop", "_worker")}


def read_damaged(folder: Path) -> None:
    """The library finds a checkpoint whose bytes are not those of its name, and says so."""
    (folder / DIGEST).mkdir()
    (folder / DIGEST / DAMAGED).write_bytes(b"anything")
    assert Checkpoints(CheckpointPlace(str(folder), 1000.0), DIGEST).newest() is None


def test_a_command_line_prints_every_message_behind_its_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with printed_messages(), printed_messages():  # `make smoke` runs a command line inside its own
        read_damaged(tmp_path)
        logger("evaluate").info("%s test rows", "1,200")
        logger("services").warning("the server answered HTTP 503; asking again in 1 s")
    printed = capsys.readouterr()
    again = "the server answered HTTP 503; asking again in 1 s\n"
    assert printed.err == f"train: checkpoint {DAMAGED} is damaged and removed\n{again}"
    assert printed.out == "evaluate: 1,200 test rows\n"


def test_behind_the_command_line_all_is_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = logger("train").parent
    assert ours is not None
    before = ours.level, ours.propagate, list(ours.handlers)
    with pytest.raises(ZeroDivisionError), printed_messages():
        raise ZeroDivisionError
    assert (ours.level, ours.propagate, ours.handlers) == before
    read_damaged(tmp_path)
    assert capsys.readouterr() == ("", "")


def test_a_level_silences_one_step_and_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = logging.getLogger("retrainer.train")
    with printed_messages():
        train.setLevel(logging.ERROR)
        try:
            read_damaged(tmp_path)
            logger("register").warning("heard")
        finally:
            train.setLevel(logging.NOTSET)
    assert capsys.readouterr().err == "register: heard\n"


def test_a_program_hears_it_through_its_own_logging(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_damaged(tmp_path)
    expected = ("retrainer.train", logging.WARNING, f"checkpoint {DAMAGED} is damaged and removed")
    assert caplog.record_tuples == [expected]


@pytest.mark.parametrize(
    ("configured", "heard"),
    [("", ""), ("logging.basicConfig(level='INFO')", "WARNING:retrainer.train:lost\n")],
)
def test_without_logging_configured_a_program_hears_nothing(configured: str, heard: str) -> None:
    code = f"import logging\n{configured}\nfrom retrainer.messages import logger\n"
    code += "logger('train').warning('lost')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", heard)


def test_what_a_program_may_want_to_silence_is_not_printed() -> None:
    others = {*modules("retrainer")} - PRINTING - {"retrainer.messages"}
    for module in (name for name in others if "print" in text(name)):
        names = {node.id for node in ast.walk(tree(module)) if isinstance(node, ast.Name)}
        assert "print" not in names, module
