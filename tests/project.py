"""A copy of this project in its own directory, with a tiny recipe: for tests of the whole pipeline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.steps import STEPS_WITHOUT_DECIDE as ORDER
from pipelines._dvc import RECIPES
from tests.conftest import ROOT

CODE = ("components", "pipelines", "retrainer", "plugins", "recipes")
FILES = ("params.yaml", "dvc.yaml", "Makefile", "requirements.lock", ".dvcignore", ".gitignore")
RECIPE = "tiny"
TINY = """
registry: {name: tiny}
source: {path: data/stripes}
task: {kind: image_classification, size: 12, channels: 1}
backbone: {family: mlp, hidden: [16]}
training: {strategy: scratch, epochs: 2, batch_size: 32, learning_rate: 1e-2}
compute: {device: cpu, dtype: float32, threads: 1}
evaluation: {resamples: 100, baseline: false}
"""


def make_project(folder: Path) -> Path:
    """The project's code, a git repository of its own, and the recipe `tiny` over 160 small images."""
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    (folder / RECIPES).write_text('{"recipes": []}')
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    (folder / "recipes" / f"{RECIPE}.yaml").write_text(TINY)
    draw_stripes(folder / "data" / "stripes", rows=160)
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "start")):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *command], cwd=folder, check=True)
    return folder


def copied(project: Path, folder: Path) -> Path:
    """A copy of a project, in which what was read of its code need not be read again."""
    shutil.copytree(project, folder)
    (memory,) = (folder / ".run").rglob("code.json")
    memory.write_text(memory.read_text().replace(str(project), str(folder)))
    return folder


def draw_stripes(folder: Path, rows: int) -> None:
    """Noisy stripes: across in one class, down in the other."""
    draw = np.random.default_rng(0)
    for row in range(rows):
        across = row % 2 == 0
        wave = np.sin(np.arange(12) * draw.uniform(0.8, 2.2) + draw.uniform(0, 6)) * 90
        pixels = 128 + (wave[:, None] if across else wave[None, :]) + draw.normal(0, 25, (12, 12))
        path = folder / ("across" if across else "down") / f"{row:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def environment() -> dict[str, str]:
    """This process's environment without what would lead a run elsewhere, or be told to another `make`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "RETRAINER_", "DVC_", "MAKE", "MFLAGS"))
    }
    return kept | {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


def run(project: Path, *words: str, status: int = 0, **variables: str) -> str:
    """`python -m pipelines …` in the project; returns what it printed, after checking its exit status.

    `variables` are further ones of its environment.
    """
    command = [sys.executable, "-m", "pipelines", *words]
    done = subprocess.run(
        command, cwd=project, env=environment() | variables, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == status, f"{words}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def pipeline(project: Path, *settings: str, status: int = 0, **variables: str) -> str:
    chosen = [word for pair in settings for word in ("--set", pair)]
    return run(project, "pipeline", "--recipe", RECIPE, *chosen, status=status, **variables)


def steps(printed: str) -> dict[str, str]:
    """Step → `ran` or `restored`, from the headings."""
    found = {}
    for line in printed.splitlines():
        if line.startswith("── ") and (step := line[3:].partition(":")[0]) in ORDER:
            found[step] = "restored" if "restored" in line else "ran"
    return found


def made(project: Path, port: str, file: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project / "runs" / RECIPE / port / file).read_text())
    return content
