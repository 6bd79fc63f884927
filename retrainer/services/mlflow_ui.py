"""MLflow's own pages over the sqlite file of this project."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from retrainer.services import connection, database
from retrainer.services.address import sqlite_path, tracking_uri, without_credentials

# Of MLflow's server, which is made for a team, one reader of a file needs no queue of jobs. What is out of
# date in MLflow's own code is no news to them.
_ONE_READER = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PYTHONWARNINGS": "ignore",
}


def show(port: int) -> int:
    """Becomes MLflow's server, on this machine alone; one that MLFLOW_TRACKING_URI names is only named."""
    uri = tracking_uri()
    if sqlite_path(uri) is None:
        print(f"MLFLOW_TRACKING_URI is set: open {without_credentials(uri)}")
        return 0
    database.ensure_database()
    connection.settle_environment()
    print(f"http://127.0.0.1:{port} shows {sqlite_path(uri)} in a few seconds; Ctrl-C ends it", flush=True)
    # MLflow starts its helpers by name, and they are beside this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "mlflow", *_server_words(uri, port)]
    # In our place, so that whatever ends this process ends the server.
    return os.execve(sys.executable, command, _ONE_READER | os.environ | {"PATH": path})


def _server_words(uri: str, port: int) -> list[str]:
    """`mlflow server …`, with one process for the requests instead of four, that logs only what is wrong."""
    stores = ["--backend-store-uri", uri, "--registry-store-uri", uri]
    quiet = ["--uvicorn-opts", "--log-level warning --no-access-log"]
    return ["server", "--host", "127.0.0.1", "--port", str(port), *stores, "--workers", "1", *quiet]
