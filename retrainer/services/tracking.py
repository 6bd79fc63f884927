"""MLflow's runs: one for each training (while it trains: training_run.py), and below it one for each
evaluation.

The model never depends on them: a run and a model find each other by the tag `model_sha256`, and a model that
came from a cache gets its run again from its own history.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.findings import data_tags
from retrainer.formats.files import MANIFEST, digest_of
from retrainer.formats.model_files import DESCRIPTION, HISTORY, SETTINGS
from retrainer.formats.profile import FILE as PROFILE
from retrainer.formats.report import CARD, HTML, METRICS
from retrainer.services import lineage, runs
from retrainer.services.address import sqlite_path, tracking_uri
from retrainer.services.connection import client, experiment_id, explained
from retrainer.services.download import local_path
from retrainer.services.readers import MODEL_SHA256, SqliteReader

if TYPE_CHECKING:
    from mlflow import MlflowClient

RESTORED = "restored"
REPORT_SHA256 = "report_sha256"


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def train_run(mlflow: MlflowClient, model: Path) -> str:
    """The run that made the model directory; when the server has none, one made from the model's history."""
    experiment = experiment_id(mlflow)
    tags = {MODEL_SHA256: _read(model / MANIFEST)["model_sha256"], runs.STEP: runs.TRAIN}
    found = runs.find_run(mlflow, experiment, tags)
    if found is not None:
        return str(found.info.run_id)
    began, settings = runs.now(), _read(model / SETTINGS)
    tags |= {RESTORED: "true"}
    strategy = runs.strategy_of(settings)
    run_id = runs.create_run(mlflow, experiment, runs.TRAIN, began, tags, strategy=strategy)
    runs.log_settings(mlflow, run_id, settings)
    runs.log_dataset(mlflow, run_id, _read(model / DESCRIPTION)["dataset_sha256"], {})
    history = json.loads((model / HISTORY).read_text(encoding="utf-8"))
    epochs = [(number, began, _figures(epoch)) for number, epoch in enumerate(history, start=1)]
    runs.log_epochs(mlflow, run_id, epochs)
    mlflow.set_terminated(run_id, "FINISHED")
    return run_id


def trained_by(mlflow: MlflowClient, run_id: str) -> dict[str, str]:
    """The code and the image that made the model, as its training's run says; empty when it says nothing."""
    tags = mlflow.get_run(run_id).data.tags
    return {name: tags[name] for name in (*lineage.CODE, runs.CODE_SHA256) if name in tags}


def _figures(epoch: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: value for name, value in epoch.items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if not isinstance(value, bool)}


def log_evaluation(report: Path, model: Path) -> str:
    """The id of this report's run, below the run that made the model; made when the server has none.

    The settings stand beside its metrics, and the metrics beside the settings of the run that made the model:
    either row of MLflow's table says what came of what. A Kubeflow run has one of its own, also when an
    earlier one came to the very same report.
    """
    mlflow = client()
    experiment = experiment_id(mlflow)
    told = lineage.of_process()
    tags = {
        MODEL_SHA256: _read(model / MANIFEST)["model_sha256"],
        REPORT_SHA256: digest_of(_read(report / MANIFEST)["files"]),
        runs.STEP: "evaluate",
        **{name: told[name] for name in (lineage.KFP_RUN_ID,) if name in told},
    }
    found = runs.find_run(mlflow, experiment, tags)
    if found is not None:
        return str(found.info.run_id)
    parent = train_run(mlflow, model)
    began, settings = runs.now(), _read(model / SETTINGS)
    strategy = runs.strategy_of(settings)
    run_id = runs.create_run(mlflow, experiment, "evaluate", began, {**tags, **told}, parent, strategy)
    runs.log_settings(mlflow, run_id, settings)
    figures = _read(report / METRICS)
    runs.log_epochs(mlflow, run_id, [(0, began, _estimates(figures))])
    runs.log_epochs(mlflow, parent, [(0, began, _estimates({"metrics": figures["metrics"]}))])
    verdict = {"verdict": figures["gate"]["verdict"]}
    runs.log_tags(mlflow, run_id, verdict | data_tags(figures.get("data", {})))
    for name in (HTML, METRICS, CARD, PROFILE):
        if (report / name).is_file():  # a report of an older version lacks some
            mlflow.log_artifact(run_id, str(report / name))
    mlflow.set_terminated(run_id, "FINISHED")
    return run_id


def log_decision(decision: Mapping[str, Any], file: Path) -> str:
    """The run of one decision whether to train: what was decided and why as tags, its numbers as metrics.

    Returns its id. The tag DECISION is `train`, or the reason why nothing is trained.
    """
    mlflow = client()
    began = runs.now()
    stops = decision["choice"] == "stop"
    tags = {
        runs.DECISION: decision["reason"] if stops else runs.TRAIN,
        "retrainer.reason": decision["reason"],
        "retrainer.policy": decision["policy"],
        "mlflow.note.content": decision["why"],
        runs.DATASET_SHA256: decision["dataset_sha256"],
        **lineage.of_process(),
    }
    run_id = runs.create_run(mlflow, experiment_id(mlflow), "decide", began, tags)
    numbers = {f"rows.{name}": count for name, count in decision["rows"].items()}
    for name, test in decision["tests"].items():
        numbers |= {f"{name}.p_value": test["p_value"], f"{name}.adjusted": test["adjusted"]}
    runs.log_epochs(mlflow, run_id, [(0, began, numbers)])
    mlflow.log_artifact(run_id, str(file))
    mlflow.set_terminated(run_id, "FINISHED")
    return run_id


def fetch_artifact(run_id: str, name: str, into: Path) -> Path | None:
    """A file that a run keeps, here; None when there is no such run, or no such file of it.

    It lies where the run keeps it when that is on this machine, else below `into`.
    """
    database = sqlite_path(tracking_uri())
    place = SqliteReader(database).artifacts_of(run_id) if database else None
    if folder := local_path(place) if place else None:  # without MLflow, whose import takes seconds
        return folder / name if (folder / name).is_file() else None
    return _fetched_by_client(run_id, name, into)


def _fetched_by_client(run_id: str, name: str, into: Path) -> Path | None:
    from mlflow.exceptions import MlflowException

    mlflow = client()
    with explained():
        try:
            if name not in {found.path for found in mlflow.list_artifacts(run_id)}:
                return None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return Path(mlflow.download_artifacts(run_id, name, str(into)))


def _estimates(figures: Mapping[str, Any], path: str = "") -> dict[str, float]:
    """Every {"value": …, "low": …, "high": …} of the report by its path, as in `metrics.accuracy.low`."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        here = f"{path}.{name}" if path else name
        if isinstance(value, Mapping) and isinstance(value.get("value"), int | float):
            bounds = {key: value[key] for key in ("low", "high") if isinstance(value.get(key), int | float)}
            found |= {here: value["value"], **{f"{here}.{key}": bound for key, bound in bounds.items()}}
        elif isinstance(value, Mapping):
            found |= _estimates(value, here)
    return found
