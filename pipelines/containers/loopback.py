"""A rehearsal's own MLflow server and S3 server on loopback, arranged as on a cluster.

The steps write runs to the one and files straight to the other, with the credentials and addresses that
Kubernetes secrets hold there. Here they are drawn anew for each rehearsal, and live in environments alone.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from pipelines.containers.background import Background, answers
from retrainer.services.database import make_template, template_path

# Folders that the S3 server shows as buckets.
MLFLOW_BUCKET = "mlflow"
SOURCE_BUCKET = "source"
WEBHOOK = "RETRAINER_WEBHOOK"
_PLACES = {"RETRAINER_CHECKPOINTS": "checkpoints", "RETRAINER_DVC_REMOTE": "dvc"}
_REGION = "us-east-1"
# A registry for one run needs no processes for background jobs.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
_OURS = ("MLFLOW_", "AWS_", "RCLONE_", "RETRAINER_")


@dataclass(frozen=True)
class Services:
    """What the steps find in their environment, and the words in it that nothing may show."""

    environment: dict[str, str]
    secrets: tuple[str, ...]


def serve(background: Background, folder: Path) -> Services:
    """Starts both servers; their data and logs lie in `folder`. Raises UserError when one does not start."""
    key, secret = secrets.token_hex(10), secrets.token_hex(20)
    storage = {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": _REGION,
        "AWS_ENDPOINT_URL": _serve_s3(background, folder, key, secret),
    }
    storage["MLFLOW_S3_ENDPOINT_URL"] = storage["AWS_ENDPOINT_URL"]
    told = {variable: f"s3://{bucket(folder, name).name}" for variable, name in _PLACES.items()}
    told["MLFLOW_TRACKING_URI"] = _serve_mlflow(background, folder, storage)
    return Services(storage | told, (key, secret))


def serve_webhook(background: Background, folder: Path) -> Services:
    """A webhook, for a pipeline with a secret that names one; its messages lie in `webhook.jsonl`."""
    word, port, log = secrets.token_hex(10), _free_port(), folder / "webhook.log"
    file = str((folder / "webhook.jsonl").absolute())
    environment = _environment() | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "pipelines.containers.webhook", str(port), file]
    number = background.start(command, environment, log)
    background.wait_until(number, lambda: answers(f"http://127.0.0.1:{port}"), log)
    return Services({WEBHOOK: f"http://127.0.0.1:{port}/{word}"}, (word,))


def further_variables(asked: set[str]) -> dict[str, str]:
    """What `cluster.step_secrets` asks for, as far as this machine's environment has it by that name."""
    from pipelines._pods import LENT_KEYS, WEBHOOK_KEYS

    return {key: os.environ[key] for key in asked - {*LENT_KEYS, *WEBHOOK_KEYS} if key in os.environ}


def words_of(variables: dict[str, str]) -> list[str]:
    """What of their values must not be shown: each line, as lines are printed one by one."""
    return [line for value in variables.values() for line in value.splitlines() if line.strip()]


def bucket(folder: Path, name: str) -> Path:
    """The directory behind a bucket: what lies there when the server starts is served."""
    path = folder / "s3" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def _serve_s3(background: Background, folder: Path, key: str, secret: str) -> str:
    bucket(folder, MLFLOW_BUCKET)
    address, log = f"127.0.0.1:{_free_port()}", folder / "s3.log"
    command = [_beside_python("rclone"), "serve", "s3", "--addr", address, "--config", os.devnull]
    # By the environment, as every user of the machine can read a command line; written as CSV.
    environment = _environment() | {"RCLONE_AUTH_KEY": f'"{key},{secret}"'}
    number = background.start([*command, str((folder / "s3").absolute())], environment, log)
    background.wait_until(number, lambda: answers(f"http://{address}"), log)
    return f"http://{address}"


def _serve_mlflow(background: Background, folder: Path, storage: dict[str, str]) -> str:
    database, log, port = folder / "mlflow.db", folder / "mlflow.log", _free_port()
    address = f"http://127.0.0.1:{port}"
    if template_path().is_file():
        shutil.copyfile(template_path(), database)
    else:
        make_template(database)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{database.absolute()}"]
    command += ["--no-serve-artifacts", "--default-artifact-root", f"s3://{MLFLOW_BUCKET}"]
    environment = _environment() | storage | _QUIET
    number = background.start(command, environment, log)
    background.wait_until(number, lambda: answers(f"{address}/health"), log)
    return address


def _environment() -> dict[str, str]:
    """This process's, without what would lead a server, or its log, elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def _beside_python(program: str) -> str:
    """A program of the same environment, also where that is not activated."""
    return shutil.which(program, path=str(Path(sys.executable).parent)) or program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
