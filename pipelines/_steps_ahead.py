"""Starts the process that forks for each step (`components/_fork_server.py`), and ends it with its steps."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components._forked import SERVER
from retrainer import extend
from retrainer.resolve import Resolved
from retrainer.services.address import is_server, tracking_uri

# In this order: what the first steps need comes first.
_MODULES = (
    "pyarrow.parquet",
    "sklearn.linear_model",
    "mlflow",
    "retrainer.registry.champion",
    "retrainer.registry.register",
    "torch",
    "retrainer.training.train",
    "retrainer.training.loop",
    "retrainer.evaluation.evaluate",
)
_OF_A_DATABASE = ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store")
# What a path of a socket may be long, with its last zero.
_PATH_CHARACTERS = 100
_NVIDIA = Path("/dev/nvidiactl")


class StepsAhead:
    """The server of one `make pipeline`: begun when first a step may run."""

    def __init__(self, resolved: Resolved, root: Path) -> None:
        self._resolved, self._root = resolved, root
        self._path = resolved.directory / "steps"
        self._server: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """What is imported is this recipe's; it takes seconds, in which DVC and the first steps work."""
        if self._server is not None or not _possible(self._path):
            return
        self._path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(self._path))
            listening.listen()
            number = listening.fileno()
            command = [sys.executable, "-m", "components._fork_server", str(number), str(os.getpid())]
            self._server = subprocess.Popen(
                [*command, *self._what()], cwd=self._root, pass_fds=[number], stdin=subprocess.DEVNULL
            )
        os.environ[SERVER] = os.path.relpath(self._path, self._root)  # DVC runs steps there

    def _what(self) -> list[str]:
        """The model's family, and the modules to import."""
        family = self._resolved.settings["backbone"]["family"]
        module = None if "." in family else extend.load("models", family, "backbone.family")
        database = () if is_server(tracking_uri()) else _OF_A_DATABASE
        return [family, *_MODULES, *database, *getattr(module, "IMPORTED", ())]

    def end(self) -> None:
        """Ends the server, and whichever step still runs, and waits for them."""
        import psutil

        if self._server is None:
            return
        os.environ.pop(SERVER, None)
        with contextlib.suppress(psutil.Error):
            steps = psutil.Process(self._server.pid).children(recursive=True)
            for process in steps:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(steps, timeout=5)
        self._server.kill()
        self._server.wait()
        self._path.unlink(missing_ok=True)
        self._server = None


def _possible(path: Path) -> bool:
    """Only where a process may be forked that has imported torch, and never beside a GPU."""
    return sys.platform == "linux" and not _NVIDIA.exists() and len(str(path)) < _PATH_CHARACTERS


@contextmanager
def steps_ahead(resolved: Resolved, root: Path) -> Iterator[StepsAhead]:
    ahead = StepsAhead(resolved, root)
    try:
        yield ahead
    finally:
        ahead.end()
