"""`make doctor`: one line a finding, each fault with its cure, and an exit status that a script can use."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from retrainer import doctor
from retrainer.__main__ import main
from retrainer.projects.project import keep_library
from tests.conftest import ROOT


def test_every_check_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    status = doctor.examine(root=ROOT)
    lines = capsys.readouterr().out.splitlines()
    states = [line.split()[0] for line in lines]
    assert set(states) <= {"ok", "warn", "fail"}
    assert status == int("fail" in states)
    assert {line.split()[1] for line in lines} >= {"Python", "packages", "disk", "GPU", "MLflow", "DVC"}
    assert all(" → " in line for line in lines if line.startswith("fail"))


def test_a_library_that_is_not_the_projects(tmp_path: Path) -> None:
    assert doctor.library(tmp_path).state == "ok"
    keep_library(tmp_path, doctor.__version__, b"wheel")
    assert doctor.library(tmp_path).state == "ok"
    keep_library(tmp_path, "9.0.0", b"newer")
    found = doctor.library(tmp_path)
    assert found.state == "fail" and "the project is of 9.0.0" in found.text and "make setup" in found.cure


def test_a_package_that_is_not_the_locked_one(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.0.1 \\\n    --hash=sha256:00\nnever==1 ; sys_platform == 'never' \\\n")
    found = doctor.packages(lock)
    assert found.state == "fail" and "1 of 1 differ" in found.text and "numpy" in found.text
    assert "make setup" in found.cure


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:word@127.0.0.1:{port}")
    found = doctor.mlflow()
    assert found.state == "fail" and "does not answer" in found.text and "word" not in found.text


def test_wrong_settings_are_a_finding(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("training: {epoch: 3}\n")
    found = doctor.settings("", tmp_path)
    assert found.state == "fail" and "did you mean 'epochs'" in found.text


def test_no_remote_is_a_warning(tmp_path: Path) -> None:
    assert doctor.dvc(tmp_path).state == "warn"
    assert doctor.dvc(ROOT).state == "ok"


def test_a_check_that_breaks_is_itself_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> doctor.Finding:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor, "gpu", broken)
    assert doctor.examine(root=ROOT) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if "libcudart" in line)
    assert line.startswith("fail  GPU")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["check-step", "no/such/model"], "no/such/model"),
        (["check-step", "--recipe", "digits-mpl"], "did you mean 'digits-mlp'"),
        (["check-step", "--recipe", "../x"], "RECIPE=../x: needed is the name of a file of recipes/"),
    ],
)
def test_check_step_says_what_is_wrong_in_one_line(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert told in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(("status", "said"), [(0, "docker works"), (1, "neither docker nor podman works")])
def test_a_command_without_its_engine_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert said in doctor.containers().text
