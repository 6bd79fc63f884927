"""The benchmark of photographs from files, at a size for a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.project import environment


@pytest.mark.release
def test_the_command_measures_decoding_and_training(tmp_path: Path) -> None:
    out = tmp_path / "photographs.json"
    words = [sys.executable, "-m", "benchmarks.gpu.photographs", "--tiny", "--out", str(out)]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["decoding"]["processes give the same pixels"] is True
    assert all(value > 0 for value in found["decoding"].values())
    places = {name.partition(", ")[2]: made["rows_per_second"] for name, made in found["training"].items()}
    assert len(places) == 4 and all(len(rates) == 2 and min(rates) > 0 for rates in places.values())
