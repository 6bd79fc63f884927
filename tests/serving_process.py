"""A real `make serve` as a process of its own, and requests to it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrainer.formats.dataset import Dataset
from tests.champions import Project
from tests.conftest import ROOT
from tests.mlflow_server import free_port

_START_SECONDS = 90


@contextmanager
def served(
    folder: Path, *words: str, page: bool = False
) -> Iterator[tuple[subprocess.Popen[str], int, list[str]]]:
    """The server's process, its port, and what it printed until it was ready, and the page with it."""
    port = free_port()
    command = [sys.executable, "-m", "retrainer", "serve", "--port", str(port), *words]
    command += [] if page else ["--page-port", "none"]
    ready = " shows a page" if page else "curl "
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    log = folder / "serve.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=stream,
            stderr=stream,
            text=True,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + _START_SECONDS
        while ready not in log.read_text():
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield process, port, log.read_text().splitlines()
    finally:
        process.kill()
        process.wait()


def ask(
    port: int, body: Any, content_type: str = "application/json", path: str = "/invocations"
) -> tuple[int, dict[str, Any]]:
    """Asks by POST, and by GET where `body` is None."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def records(project: Project) -> list[dict[str, str]]:
    images = Dataset(project.dataset).split("test")["image"].to_pylist()
    return [{"image": base64.b64encode(image["bytes"]).decode()} for image in images]
