"""The MLflow run of a tuning, below which its trials stand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.formats.dataset import Dataset
from retrainer.services import lineage, runs
from retrainer.services.connection import client, experiment_id, explained
from retrainer.services.processes import this_process

if TYPE_CHECKING:
    from mlflow import MlflowClient

Sections = Mapping[str, Mapping[str, Any]]


class TuningRun:
    """`run_id`: that of an earlier call for the same study, which goes on, or a new one's."""

    def __init__(self, known: str, sections: Sections, dataset: Path) -> None:
        self._mlflow = client()
        with explained():
            experiment = experiment_id(self._mlflow)
            runs.close_orphans(self._mlflow, experiment)
            self.run_id = (
                known if _is_there(self._mlflow, known) else self._new(experiment, sections, dataset)
            )
            self._mlflow.update_run(self.run_id, status="RUNNING")
            runs.log_tags(self._mlflow, self.run_id, {runs.PROCESS: this_process(), **lineage.of_process()})

    def _new(self, experiment: str, sections: Sections, dataset: Path) -> str:
        strategy = runs.strategy_of(sections)
        made = runs.create_run(self._mlflow, experiment, runs.TUNE, runs.now(), {}, strategy=strategy)
        runs.log_settings(self._mlflow, made, sections)
        data = Dataset(dataset)
        runs.log_dataset(self._mlflow, made, data.content_sha256, data.manifest)
        return made

    def finish(self, figures: Mapping[str, float], tags: Mapping[str, str], status: str = "FINISHED") -> None:
        with explained():
            runs.log_epochs(self._mlflow, self.run_id, [(0, runs.now(), figures)])
            runs.log_tags(self._mlflow, self.run_id, tags)
            self._mlflow.set_terminated(self.run_id, status)


def _is_there(mlflow: MlflowClient, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(run_id) and mlflow.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException:
        return False
