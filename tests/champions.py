"""A small real registry with three versions of 'net': 1 and 2 were champion, 3 is challenger."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from retrainer.formats.model_files import read_model
from retrainer.formats.report import METRICS, seal_report
from retrainer.registry.champion import fetch_anchor, fetch_champion
from retrainer.registry.register import register_model
from retrainer.registry.standing import decision_on
from retrainer.services import lookup
from retrainer.settings import Registry
from tests.registered import image_dataset, judged, untrained_model

NAME = "net"
NET = Registry(name=NAME)
VERDICTS = ("champion", "champion", "challenger")
# As a project's root has it.
PARAMS = "registry: {name: net}\n"


@dataclass(frozen=True)
class Project:
    folder: Path
    dataset: Path

    def candidate(self, seed: int, verdict: str | None = None) -> tuple[Path, Path]:
        """Another model, and its report against the present champion, with the gate's verdict or another."""
        model = untrained_model(self.folder / f"model-{seed}", self.dataset, seed=seed)
        return model, self.report(model, verdict)

    def report(self, model: Path, verdict: str | None = None, name: str = NAME, **gate: Any) -> Path:
        scratch = self.folder / "scratch"
        champion = fetch_champion(name, scratch)
        anchor = fetch_anchor(name, champion, scratch)
        known = {
            "name": name,
            "judgements": partial(lookup.judgements, name),
            "decision": decision_on(name, read_model(model)["model_sha256"]),
        }
        path = self.folder / f"{model.name}-report"
        report = judged(path, self.dataset, model, champion, anchor, known, **gate)
        if verdict:
            set_verdict(report, verdict)
        return report

    def register(self, seed: int, verdict: str | None = None, net: Registry = NET) -> dict[str, Any]:
        model, report = self.candidate(seed, verdict)
        return register_model(model, report, self.folder / f"registration-{seed}", net)


def set_verdict(report: Path, verdict: str) -> None:
    figures = json.loads((report / METRICS).read_text())
    figures["gate"]["verdict"] = verdict
    (report / METRICS).write_text(json.dumps(figures))
    seal_report(report)


def own_environment(patch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "RETRAINER_", "GITHUB_", "CI_"))]:
        patch.delenv(name)
    patch.chdir(folder)


def without_serving_check(patch: pytest.MonkeyPatch) -> None:
    """Registering takes seconds less; that the check works is for the tests of registration."""
    patch.setattr("retrainer.registry.versions.check_serving", lambda *_: 0.0)
    patch.setattr("retrainer.registry.register.serving_check_begun", lambda _: nullcontext())


def fill(folder: Path) -> Project:
    """Registers the three versions, in the registry that the environment names."""
    (folder / "params.yaml").write_text(PARAMS)
    made = Project(folder, image_dataset(folder / "dataset"))
    for seed, verdict in enumerate(VERDICTS):
        made.register(seed, verdict)
    return made


def in_a_copy(base: Project, folder: Path, patch: pytest.MonkeyPatch) -> Project:
    """The same registry in another directory, files included, so that a test may change anything."""
    own_environment(patch, folder)
    shutil.copytree(base.folder, folder, dirs_exist_ok=True)
    move_files(folder / "mlflow.db", base.folder, folder)
    return Project(folder, folder / "dataset")


def move_files(database: Path, before: Path, after: Path) -> None:
    """Every place in MLflow's file that lay below `before` lies below `after`."""
    import sqlite3

    places = {
        "experiments": "artifact_location",
        "runs": "artifact_uri",
        "logged_models": "artifact_location",
        "model_versions": "storage_location",
    }
    with sqlite3.connect(database) as connection:
        for table, column in places.items():
            query = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            connection.execute(query, (str(before), str(after)))
    connection.close()


def files_of(version: str) -> Path:
    """Where the registry keeps a version's files on this machine."""
    found = lookup.by_version(NAME, version)
    assert found is not None
    return Path(found.source.removeprefix("file://"))
