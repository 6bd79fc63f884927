"""`make tune`, `make compare` and runs/RECIPE/history by their command lines, in a project of their own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import RECIPE, copied, environment, pipeline, run

pytestmark = [pytest.mark.release, pytest.mark.timeout(600)]


def retrainer(project: Path, words: str) -> str:
    """What `python -m retrainer …` printed; the words are the shell's, with a pipe perhaps."""
    command = ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m retrainer {words}"]
    done = subprocess.run(
        command, cwd=project, env=environment(), capture_output=True, text=True, timeout=280
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_a_recipe_is_tuned_and_compared(finished_project: Path, tmp_path: Path) -> None:
    """Two at a time, then the rest; the tuned recipe, the same again, the pipeline as if nothing had been."""
    pytest.importorskip("optuna")
    project = copied(finished_project, tmp_path / "project")
    lock = (project / "dvc.lock").read_text()
    # So low a rate learns nothing in two epochs: some other trial does better.
    tune = ("tune", "--recipe", RECIPE, "--set", "training.learning_rate=1e-5", "--jobs", "2", "--trials")
    printed = run(project, *tune, "3")
    assert re.search(r"^── expected: .* for 3 whole trainings, by the training of [\d-]+", printed, re.M)
    assert "── ingest" not in printed and "── preprocess" not in printed, "the data are those of the pipeline"
    assert len(re.findall(r"^── trial \d of 3: training\.learning_rate=", printed, re.M)) == 3
    again = run(project, *tune, "4", "--force")
    assert "4 trials, 2 at a time; 3 of them are done, by an earlier call" in again
    assert len(re.findall(r"^── trial", again, re.M)) == 1
    assert (project / "recipes" / f"{RECIPE}-tuned.yaml").is_file() and "stays as it is" not in again
    assert "recipes/tiny-tuned.yaml says so already" in run(project, *tune, "4")
    assert pipeline(project).startswith("Nothing to do: tiny is up to date")
    assert (project / "dvc.lock").read_text() == lock

    (kept,) = (project / "runs" / RECIPE / "history").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ-v1", kept.name)
    about = json.loads((kept / "run.json").read_text())
    assert about["settings"]["training"]["epochs"] == 2 and len(about["git_commit"]) >= 40
    assert f"runs/tiny/history/{kept.name}/report" in retrainer(project, f"history --recipe {RECIPE}")
    found = retrainer(project, f"compare --recipe {RECIPE} 1 runs/{RECIPE}/history/{kept.name}")
    assert re.search(r"^code_sha256 +[0-9a-f]{12}… +[0-9a-f]{12}…$", found, re.M)
    assert re.search(r"^accuracy +\d\.\d+ \(\d\.\d+–\d\.\d+\) +\d\.\d+ \(", found, re.M)
