"""The Makefile: what `make help` lists is what there is, each target once."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


def test_every_target_is_there_once_and_declared() -> None:
    text = (ROOT / "Makefile").read_text()
    listed = re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE)
    declared = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert declared and sorted(listed) == sorted(declared[1].replace("\\", " ").split())


def test_make_has_nothing_to_warn_about() -> None:
    """GNU make only warns of two recipes for one target, and takes the later."""
    done = subprocess.run(
        ["make", "-n", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""


# --- what is given stays text ----------------------------------------------------------------------------

GIVEN = re.findall(r"\w+", re.search(r"^GIVEN := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.M)[1])  # type: ignore[index]
OF_OUR_OWN = {"help", "setup", "docs", "lint", "format", "lock", "wheel", "clean"}  # they take no variable
HOSTILE = (
    "x';touch${IFS}pwned;'",
    "x$(shell touch pwned)",
    "x`touch${IFS}pwned`",
    '"$(touch${IFS}pwned)"',
    "x|#\\",
)


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """An environment whose Python writes the arguments that it was given, a zero byte behind each."""
    made = tmp_path / "venv"
    (made / "bin").mkdir(parents=True)
    lock = (ROOT / "requirements.lock").read_bytes()
    (tmp_path / "requirements.lock").write_bytes(lock)
    lock_sum = subprocess.run(["cksum"], input=lock, capture_output=True, check=True).stdout.decode()
    (made / f"ready-{lock_sum.strip().replace(' ', '-')}").touch()
    python = made / "bin" / "python"
    python.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" >> {shlex.quote(str(tmp_path / 'calls'))}\n")
    python.chmod(0o755)
    return made


def run_make(
    recorder: Path, targets: list[str], given: dict[str, str]
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    command = ["make", "-f", str(ROOT / "Makefile"), "-C", str(recorder.parent), *targets, f"VENV={recorder}"]
    done = subprocess.run(
        [*command, *(f"{name}={value}" for name, value in given.items())],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"]},
    )
    calls = recorder.parent / "calls"
    return done, calls.read_text().split("\0")[:-1] if calls.exists() else []


def targets() -> list[str]:
    return [
        t
        for t in re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M)
        if t not in OF_OUR_OWN
    ]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_variable_is_run(recorder: Path, hostile: str) -> None:
    """Neither make nor the shell runs what stands in a variable; the program gets each as it was given."""
    done, words = run_make(recorder, targets(), dict.fromkeys(GIVEN, hostile))
    assert done.returncode == 0, done.stderr
    assert hostile in {word.removeprefix("--why=").removeprefix("--hours=") for word in words}
    assert not list(recorder.parent.rglob("pwned")) and not (ROOT / "pwned").exists()


def test_a_reason_keeps_its_words(recorder: Path) -> None:
    why = 'it\'s 5% better, $HOME and all; "really"'
    _, words = run_make(recorder, ["promote"], {"VERSION": "3", "WHY": why})
    assert words == ["-m", "retrainer", "promote", f"--why={why}", "--", "3"]


def test_settings_are_split_at_spaces_and_nowhere_else(recorder: Path) -> None:
    _, words = run_make(recorder, ["resolve"], {"SET": "a.b=[1,2] c.d='x' e.f=$(g)"})
    assert words[3:] == ["--set", "a.b=[1,2]", "--set", "c.d='x'", "--set", "e.f=$(g)"]


def test_a_line_break_is_refused(recorder: Path) -> None:
    """make would take what follows it as a command of its own."""
    done, words = run_make(recorder, ["resolve"], {"RECIPE": "x\ntouch pwned #"})
    assert done.returncode != 0 and "RECIPE: a line break stands in it" in done.stderr and not words
    assert not list(recorder.parent.rglob("pwned"))
