"""`make curve` and `make suggest` by their command lines, in a project of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.project import environment, make_project, run

pytestmark = pytest.mark.release  # nine small trainings


def test_a_curve_and_a_list_of_one_recipe(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    printed = run(project, "curve", "--recipe", "tiny", "--sizes", "1/4 1/2 1")
    found = json.loads((project / "runs/tiny/curve/curve.json").read_text())
    assert [len(point["values"]) for point in found["points"]] == [4, 3, 1]
    assert found["metric"] == "accuracy" and "more rows" in printed and "curve.html" in printed
    again = run(project, "curve", "--recipe", "tiny", "--sizes", "1/4 1/2 1")
    assert json.loads((project / "runs/tiny/curve/curve.json").read_text()) == found
    assert again.splitlines()[-1] == printed.splitlines()[-1]
    assert "SIZES" in run(project, "curve", "--recipe", "tiny", "--sizes", "9999", status=2)

    # A model that the registry does not know yet, and a folder of which half is known.
    run(project, "step", "train", "--recipe", "tiny")
    shutil.copytree(project / "data/stripes/across", project / "new")
    draw = np.random.default_rng(5)
    for number in range(20):
        noise = Image.fromarray(draw.integers(0, 256, (12, 12), np.uint8))
        noise.save(project / "new" / f"more-{number}.png")
    command = [
        sys.executable,
        "-m",
        "retrainer",
        "suggest",
        "--recipe",
        "tiny",
        "--input",
        "new",
        "--rows",
        "5",
    ]
    done = subprocess.run(
        command, cwd=project, env=environment(), capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert "the latest model" in done.stdout and "already in train, validation or test" in done.stdout
    manifest = json.loads((project / "runs/tiny/suggestions/manifest.json").read_text())
    assert manifest["rows"] == 5 and sum(manifest["left_out"].values()) >= 80
