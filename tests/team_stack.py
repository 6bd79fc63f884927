"""The team's stack on this machine, from real programs: PostgreSQL, an S3 store, and MLflow's server.

The server's options are exactly those of deploy/mlflow/server.env.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conftest import ROOT
from tests.mlflow_server import free_port, wait_for
from tests.postgres_server import Postgres, running_postgres
from tests.project import environment
from tests.s3_server import KEY, SECRET, running_s3

BUCKET = "team"
ARTIFACTS = f"s3://{BUCKET}/mlflow"


def server_options() -> dict[str, str]:
    """deploy/mlflow/server.env, as kustomize and compose read it."""
    lines = (ROOT / "deploy/mlflow/server.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


class Stack:
    """MLflow's server between a PostgreSQL and an S3 store; `server_log` is all that it has printed."""

    def __init__(self, folder: Path, postgres: Postgres, s3: str) -> None:
        self.folder, self.postgres, self.s3 = folder, postgres, s3
        self.port, self.log = free_port(), folder / "mlflow.log"
        self.uri = f"http://127.0.0.1:{self.port}"
        self.program = [sys.executable, "-m", "mlflow"]
        # The keys of the secret `mlflow-artifacts`.
        self._artifacts = {
            "MLFLOW_ARTIFACTS_DESTINATION": ARTIFACTS,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL_S3": s3,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start_server(self) -> None:
        self.server = self.mlflow("server")
        wait_for(f"{self.uri}/health", self.server, self.log)

    def mlflow(self, *words: str, **variables: str) -> subprocess.Popen[bytes]:
        """A command in the environment that the manifests give a container; what it prints goes to `log`."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MLFLOW_", "AWS_", "PG"))
        }
        with self.log.open("a") as stream:
            return subprocess.Popen(
                [*self.program, *words],
                stdout=stream,
                stderr=stream,
                cwd=self.folder,
                env=kept | self.variables() | variables,
                start_new_session=True,
            )

    def variables(self) -> dict[str, str]:
        """What the manifests give the container, at this machine's addresses."""
        here = {"MLFLOW_HOST": "127.0.0.1", "MLFLOW_PORT": str(self.port)}
        return server_options() | self.postgres.environment | self._artifacts | here

    def client(self, code: str) -> str:
        """What Python code prints that runs as a client of the server's, in a process of its own."""
        command = [sys.executable, "-W", "ignore", "-c", code]
        given = environment() | {"MLFLOW_TRACKING_URI": self.uri}
        done = subprocess.run(
            command, env=given, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    def stored(self) -> list[str]:
        """The keys of all objects in the bucket."""
        import boto3

        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        store = boto3.client("s3", endpoint_url=self.s3, region_name="us-east-1", **keys)
        pages = store.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [str(found["Key"]) for page in pages for found in page.get("Contents", [])]

    def stop_server(self) -> None:
        """As Kubernetes does: SIGTERM, then the end of all."""
        self.server.terminate()
        try:
            self.server.wait(30)
        finally:
            self.end_server()

    def end_server(self) -> None:
        """With its workers, which are of its process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()

    def restart(self) -> None:
        """Server and database, as a node that goes takes both."""
        self.stop_server()
        self.postgres.stop()
        self.postgres.start()
        self.start_server()


@contextmanager
def running_stack(folder: Path, program: Callable[[Stack], list[str]] | None = None) -> Iterator[Stack]:
    """With this environment's MLflow, or with the program that is called in its place."""
    with running_postgres() as postgres, running_s3(folder) as (address, root):
        (root / BUCKET).mkdir()
        stack = Stack(folder, postgres, address)
        if program:
            stack.program = program(stack)
        stack.start_server()
        try:
            yield stack
        finally:
            stack.end_server()
