"""How a step's process ends: nothing that it started outlives it and holds its output open."""

from __future__ import annotations

import subprocess
import sys

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
