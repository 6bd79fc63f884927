"""`make retrain` for real: DVC, MLflow's registry and a tiny model in a project of its own."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.__main__ import main
from tests.project import ORDER, RECIPE, made, make_project, pipeline, run, steps

pytestmark = pytest.mark.timeout(600)

DRIFT = ("retrain.policy=drift", "retrain.min_new_rows=20")


def retrain(project: Path, *settings: str, status: int = 0) -> str:
    chosen = [word for pair in settings for word in ("--set", pair)]
    return run(project, "retrain", "--recipe", RECIPE, *chosen, status=status)


def decisions(project: Path) -> list[str]:
    """What MLflow's runs say was decided, oldest first."""
    query = (
        "SELECT t.value FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid"
        " WHERE t.key = 'retrainer.decision' ORDER BY r.start_time"
    )
    with sqlite3.connect(project / "mlflow.db") as database:
        return [value for (value,) in database.execute(query)]


def add_brighter_images(project: Path, rows: int) -> None:
    for path in sorted((project / "data" / "stripes").glob("*/*.png"))[:: 160 // rows]:
        pixels = np.asarray(Image.open(path)).astype(int)[::-1] + 70
        brighter = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        brighter.save(path.with_name(f"{path.stem}-brighter.png"))


@pytest.mark.release
def test_it_trains_then_finds_nothing_new_then_trains_on_drift(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    printed = retrain(project, *DRIFT)
    assert list(steps(printed)) == list(ORDER) and "── decide" in printed
    assert "tiny: no champion, trains" in printed.partition("on the same rows")[2], "in the closing table too"

    printed = retrain(project, *DRIFT)
    assert steps(printed) == {} and "── decide" in printed
    assert "tiny: nothing new, nothing is trained" in printed
    assert made(project, "decision", "decision.json")["choice"] == "stop"
    assert steps(pipeline(project, *DRIFT)) == {}, "nobody but make retrain asks"

    add_brighter_images(project, rows=40)
    printed = retrain(project, *DRIFT)
    assert list(steps(printed)) == list(ORDER)
    assert "inputs drifted" in printed and "brightness" in printed
    assert made(project, "decision", "decision.json")["rows"]["new"] == 40
    assert made(project, "registration", "registration.json")["version"] == "2"
    assert decisions(project) == ["train", "nothing-new", "train"]


MISTAKES = {
    ("retrain", RECIPE, "retrain.policy=sometimes"): r"retrain\.policy.*'always', 'new-data' or 'drift'",
    ("retrain", RECIPE, "source.path=data/nowhere"): r"source\.path",
    ("pipeline", "digits-mpl", "training.epochs=2"): "did you mean 'digits-mlp'",
    ("pipeline", RECIPE, "training.epoch=2"): r"training\.epoch",
    ("pipeline", RECIPE, "epochs=2"): "SET=epochs",
}


def test_mistakes_are_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path / "project")
    monkeypatch.chdir(project)
    for (command, recipe, setting), said in MISTAKES.items():
        assert main([command, "--recipe", recipe, "--set", setting]) == 2
        printed = capsys.readouterr()
        assert re.search(said, printed.out + printed.err), setting
    assert not (project / "runs" / RECIPE).exists()
