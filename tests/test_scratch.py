"""Temporary directories: gone at the end of their block, and after a kill at the next one's beginning."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from retrainer.services.scratch import scratch_directory
from tests.conftest import ROOT

HOLDS_ONE = """
import time
from retrainer.services.scratch import scratch_directory
with scratch_directory() as folder:
    (folder / "model.safetensors").write_text("much")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_what_a_killed_process_left_is_deleted_and_what_a_living_one_uses_is_not(tmp_path: Path) -> None:
    killed, living = (
        subprocess.Popen([sys.executable, "-c", HOLDS_ONE], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(2)
    )
    with killed, living:
        left, used = (Path(process.stdout.readline().strip()) for process in (killed, living))  # type: ignore[union-attr]
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert left.is_dir() and used.is_dir()
        with scratch_directory() as mine:
            assert not left.parent.exists() and (used / "model.safetensors").exists() and mine.is_dir()
        living.terminate()
    assert not mine.exists()
    with scratch_directory():
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_in_one_process_do_not_delete_each_other() -> None:
    with scratch_directory() as one, scratch_directory() as other:
        assert one != other and one.is_dir() and other.is_dir()
