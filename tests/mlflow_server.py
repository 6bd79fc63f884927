"""A real MLflow server on loopback, for the tests that need one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrainer.services.database import template_path

_START_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_server(folder: Path, port: int = 0) -> Iterator[str]:
    """Serves the registry whose files lie in `folder`, an empty one at first; yields its address."""
    port = port or free_port()
    process = start_server(folder, port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def start_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """The server's process, once it answers; it and its workers are a group of their own."""
    database = folder / "server.db"
    if template_path().is_file() and not database.is_file():
        database.write_bytes(template_path().read_bytes())
    store = ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(folder / "files")]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *store]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    # As the product starts and deploys it; the runner of jobs alone takes as long to start as the server.
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = folder / "server.log"
    with log.open("a") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, cwd=folder, env=environment, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
    except BaseException:
        process.kill()
        raise
    return process


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path | None = None) -> None:
    """Until the address answers; fails when the process ends before, or takes a minute."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text() if log else "it ended"
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text() if log else "it does not answer")
