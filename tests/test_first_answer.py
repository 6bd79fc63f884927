"""The README's own commands lead from a clone with own photographs to the first answer over HTTP."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.mlflow_server import free_port
from tests.project import environment, make_project

# What stands before them: git clone, cd, a folder copied; and behind them the curl line that is printed.
MOST_COMMANDS, OTHERS = 8, 4


def commands() -> list[str]:
    """The lines of the README's block, without their comments."""
    (block,) = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [line.partition("#")[0].strip() for line in block.splitlines()]


def take_photographs(folder: Path, rows: int) -> None:
    """Noise over a bright or a dark ground, 64 pixels a side, as JPEG."""
    draw = np.random.default_rng(0)
    for row in range(rows):
        name = ("day", "night")[row % 2]
        pixels = draw.normal((170, 80)[row % 2], 40, (64, 64, 3)).clip(0, 255).astype(np.uint8)
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{row:03}.jpg")


def run(command: str, project: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=project, env=environment(), capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def serving(command: str, project: Path) -> Iterator[Iterable[str]]:
    """The lines that the server prints, while it runs."""
    words = ["bash", "-c", f"exec {command} PORT={free_port()}"]
    with subprocess.Popen(
        words, cwd=project, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        try:
            assert server.stdout is not None
            yield server.stdout
        finally:
            server.terminate()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_readmes_commands_lead_to_a_served_answer(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    (project / ".venv").symlink_to(ROOT / ".venv")
    take_photographs(project / "data" / "photos", 60)
    take_photographs(project / "data" / "new", 6)
    *typed, serve = commands()
    assert len(typed) + 1 + OTHERS <= MOST_COMMANDS
    for command in typed:
        printed = run(command, project)
    assert "6 rows" in printed
    with serving(serve, project) as lines:
        curl = next(line for line in lines if line.startswith("curl "))
        (answer,) = json.loads(run(curl, project))["predictions"]
    assert answer["label"] in {"day", "night"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
