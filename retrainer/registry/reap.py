"""Ends what killed processes and preempted pods left in MLflow, and nothing that is in use.

what was left                           when it ends                           and becomes
a run that is RUNNING                   its process is gone, or was silent     KILLED
a version that nobody proved to serve   its process is gone, or it is old      deleted
a version that was proven not to        it is old                              deleted
a logged model without a version        its process is gone, or it is old      deleted
a move of the champion that is `moving` see history.py                         done, or not done

Of a process of this host it is known whether it lives; of another host's only when it last wrote. A version
with an alias is never touched. MLflow keeps what is deleted until `mlflow gc`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrainer.registry import history
from retrainer.registry.lock import registry_lock
from retrainer.services import processes, runs
from retrainer.services.connection import client, experiment_id, explained
from retrainer.services.readers import MODEL_SHA256, VERIFICATION

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

# Whoever is proving that a version serves may take 10 minutes.
LEAST_HOURS = 0.25


def reap(name: str, hours: float) -> list[str]:
    """Ends what was silent for so many hours, and what dead processes of this host left; says what."""
    mlflow = client()
    with explained(), registry_lock(name):
        settled = [
            f"the move of the champion to version {move.to} by {move.who}: {move.state}"
            for move in history.settle(mlflow, name)
        ]
        return [*settled, *reap_left(mlflow, name, hours)]


def reap_left(mlflow: MlflowClient, name: str, hours: float = runs.FOREVER, spared: str = "") -> list[str]:
    """All but the moves; by default what dead processes of this host left. Must run under the name's lock.

    `spared`: the digest of a model that somebody is about to register, who goes on with what there is of it.
    """
    experiment = experiment_id(mlflow)
    closed = runs.close_orphans(mlflow, experiment, hours)
    query = f"name = '{name}' AND tags.{MODEL_SHA256} != ''"
    logged = runs.every(lambda token: mlflow.search_logged_models([experiment], query, page_token=token))
    versions = runs.every(lambda token: mlflow.search_model_versions(f"name = '{name}'", page_token=token))
    left = _Left(mlflow, name, {model.model_uri: model for model in logged}, hours, spared)
    removed = [version for version in versions if left.remove_version(version)]
    kept = {version.source for version in versions if version not in removed}
    gone = [model for model in logged if left.remove_model(model, kept)]
    return [
        *(f"run {run.info.run_id} ({run.data.tags.get(runs.STEP, '')}): KILLED" for run in closed),
        *(f"version {version.version} of '{name}', never proven to serve: deleted" for version in removed),
        *(f"logged model {model.model_id}, which is no version: deleted" for model in gone),
    ]


@dataclass(frozen=True)
class _Left:
    """`logged`: this project's logged models of the name, by address."""

    mlflow: MlflowClient
    name: str
    logged: Mapping[str, LoggedModel]
    hours: float
    spared: str

    def remove_version(self, version: ModelVersion) -> bool:
        """Deletes the version, when it is ours, unproven, without an alias and nobody works on it."""
        ours = MODEL_SHA256 in version.tags
        proof = version.tags.get(VERIFICATION)
        if not ours or proof == "passed" or not self._abandoned(version, version.source, proof is None):
            return False
        if str(version.version) in self._aliased():
            return False
        self.mlflow.delete_model_version(self.name, str(version.version))
        return True

    def remove_model(self, model: LoggedModel, kept: Collection[str]) -> bool:
        if model.model_uri in kept or not self._abandoned(model, model.model_uri, True):
            return False
        self.mlflow.delete_logged_model(model.model_id)
        return True

    def _abandoned(self, thing: Any, uri: str, with_process: bool) -> bool:
        """`with_process`: it has no more use once the process that made it is gone."""
        if thing.tags[MODEL_SHA256] == self.spared:
            return False
        made_by = self.logged[uri].tags.get(runs.PROCESS) if uri in self.logged else None
        if made_by and processes.is_here(made_by) and with_process:
            return processes.is_gone(made_by)
        return runs.hours_since(thing.creation_timestamp) > self.hours

    def _aliased(self) -> set[str]:
        """Asked just before something is deleted."""
        return {str(version) for version in self.mlflow.get_registered_model(self.name).aliases.values()}
