"""How a step's process ends: nothing that it started outlives it and holds its output open."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from components._process import report_failure
from tests.conftest import ROOT

LEAVES_A_DAEMON = """
import subprocess, sys
from components._process import leaving_nothing_behind

with leaving_nothing_behind():
    # As a daemon is made: a child of a child, in a session of its own, whose parent ends at once.
    code = "import subprocess as s; s.Popen(['sleep', '600'], start_new_session=True)"
    subprocess.run([sys.executable, "-c", code])
    raise SystemExit(3)
"""


def test_a_daemon_that_a_step_leaves_is_ended() -> None:
    """Else `communicate`, as Kubeflow's launcher does, would wait for it."""
    step = subprocess.Popen(
        [sys.executable, "-c", LEAVES_A_DAEMON],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, said = step.communicate(timeout=60)
    assert step.returncode == 3
    assert "ending a process that the step left behind: sleep" in said


def test_a_step_that_leaves_nothing_says_nothing() -> None:
    words = [sys.executable, "-m", "components", "ingest", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""


def test_a_full_disk_is_told_with_its_cure(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where another error hides it."""
    try:
        try:
            with Path("/dev/full").open("w") as full:
                full.write("x")
        except OSError as error:
            raise RuntimeError("the run cannot be written") from error
    except RuntimeError as error:
        assert report_failure("train", error) == 2
    said = capsys.readouterr().err
    assert re.match(r"train: the disk is full; .*`make clean`.* \(the run cannot be written\)$", said)
