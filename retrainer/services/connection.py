"""MLflow's client, quiet, for the settled address. Importing it costs a second: call late."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import ServiceError
from retrainer.services.address import (
    is_server,
    mlflow_program,
    registry_uri,
    sqlite_path,
    tracking_uri,
    without_credentials,
)
from retrainer.services.database import ensure_database
from retrainer.services.rest import check_reachable
from retrainer.services.s3 import PATIENCE

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_EXPERIMENT = "retrainer"
ARTIFACTS = "mlartifacts"
_MESSAGE_CHARACTERS = 500

# What a person has set stays. MLflow's own patience with a dead server is several minutes.
_ENVIRONMENT = {
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    **PATIENCE,
}


def settle_environment() -> None:
    """What MLflow reads from the environment when it is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.WARNING)


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """These variables while the block runs, for what MLflow takes from nowhere else."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def client() -> MlflowClient:
    """Raises UserError when a server does not answer, or a sqlite file is not of this MLflow's making."""
    settle_environment()
    check_reachable()
    ensure_database()
    from mlflow import MlflowClient

    with explained():
        made = MlflowClient(tracking_uri=tracking_uri(), registry_uri=registry_uri())
        made.search_experiments(max_results=1)  # opens the database
    return made


@contextmanager
def explained() -> Iterator[None]:
    """What MLflow raises inside becomes a UserError: its own words may hold an address with a password."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise ServiceError(_cure(str(error))) from None


def _cure(message: str) -> str:
    line = without_credentials(" ".join(message.split()))
    if "out-of-date database schema" in line:
        path = sqlite_path(tracking_uri())
        return f"{path} was made by an older MLflow: copy it, then run `{mlflow_program()} db upgrade sqlite:///{path}`"
    return f"MLFLOW_TRACKING_URI={without_credentials(tracking_uri())}: {line[:_MESSAGE_CHARACTERS]}"


def experiment_id(mlflow: MlflowClient) -> str:
    """The experiment of MLFLOW_EXPERIMENT_ID, or MLFLOW_EXPERIMENT_NAME (`retrainer`), made when absent."""
    from mlflow.exceptions import MlflowException

    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        try:
            return str(mlflow.create_experiment(name, artifact_location=_artifact_location()))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = mlflow.get_experiment_by_name(name)  # another process was quicker
    if found.lifecycle_stage != "active":
        raise ServiceError(
            f"MLflow's experiment '{name}' was deleted: name another by MLFLOW_EXPERIMENT_NAME,"
            f" or run `{mlflow_program()} experiments restore -x {found.experiment_id}`"
        )
    return str(found.experiment_id)


def _artifact_location() -> str | None:
    """None lets a server choose; else beside the sqlite file, absolute so that it is found from anywhere."""
    uri = tracking_uri()
    if is_server(uri) or uri.startswith("databricks"):
        return None
    database = sqlite_path(uri)
    root = database.parent if database else Path.cwd()
    return (root / ARTIFACTS).as_uri()
