"""A process that finds nothing of this project: only what is registered, and the installed packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from retrainer.services.address import registry_uri, tracking_uri, without_credentials
from retrainer.services.keys import SIGNING

_REASON_CHARACTERS = 400
# MLflow's scoring server gives up after a minute; how long is waited is the caller's decision.
_PATIENCE = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
_FOREVER_SECONDS = "86400"
_CACHES = ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME")
# What a program needs to find its libraries and to read texts.
_PLAIN = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TMPDIR",
    "SYSTEMROOT",
)
# Nobody listens there: what asks by HTTP, as its libraries do where nobody told them not to, asks in vain.
_NOWHERE = "http://127.0.0.1:9"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


class Failed(Exception):
    """The last line that the process said, without credentials."""


class _Process:
    """A started process, which imports what it was told to and then waits for its work on standard input."""

    def __init__(self, script: Path, modules: Sequence[str]) -> None:
        self._empty = tempfile.TemporaryDirectory(prefix="isolated-")
        # -I: no PYTHONPATH, no user site, no current directory. -B: writes nothing beside registered code.
        command = [sys.executable, "-I", "-B", str(script), str(os.getpid()), *modules]
        self._started = subprocess.Popen(
            command,
            cwd=self._empty.name,
            env=_environment(self._empty.name),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, work: Sequence[str], timeout_seconds: float) -> None:
        """Raises Failed when it does not end well, or not in time."""
        try:
            _, said = self._started.communicate(json.dumps(work) + "\n", timeout_seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"no answer within {timeout_seconds:.0f} s") from None
        status = self._started.returncode
        if status != 0:
            last = without_credentials(said.strip().rpartition("\n")[2])
            ended = f"the process ended with status {status}"
            raise Failed(last[:_REASON_CHARACTERS] if last and status > 0 else ended)

    def end(self) -> None:
        """Whatever it does."""
        self._started.kill()
        self._started.communicate()
        self._empty.cleanup()


# Begun and not yet given any work, by script.
_waiting: dict[Path, _Process] = {}


@contextmanager
def begun(script: Path, modules: Sequence[str]) -> Iterator[None]:
    """Inside, a process already imports `modules`: the first `run_isolated` of the script finds that done.

    What it sees of the environment is that of now. Inside of another `begun`, that one's process serves.
    """
    if script in _waiting:
        yield
        return
    _waiting[script] = _Process(script, modules)
    try:
        yield
    finally:
        if script in _waiting:
            _waiting.pop(script).end()


def run_isolated(script: Path, work: Sequence[str], timeout_seconds: float) -> None:
    """Runs a Python file in an empty directory, which also stands for every cache of weights.

    Its arguments are this process's id, with which it must end, and the names of modules to import, if any;
    its work is one line of JSON on standard input. It reaches the same tracking server and registry as this
    process, and no hub. Raises Failed when it does not end well, or not in time. The signing key is not its
    business.
    """
    process = _waiting.pop(script, None) or _Process(script, ())
    try:
        process.run(work, timeout_seconds)
    finally:
        process.end()


def become_isolated(script: Path, arguments: Sequence[str], empty: Path, more: Mapping[str, str]) -> NoReturn:
    """Turns this process into one that runs the Python file and finds nothing of this project.

    `empty` is an empty directory that stands for every cache of weights; `more` are variables that it gets
    where a person has not set them. The registry is the same, and so is the working directory.
    """
    environment = dict(more) | _reached(str(empty))
    os.execve(sys.executable, [sys.executable, "-I", "-B", str(script), *arguments], environment)


def without_secrets(home: Path) -> dict[str, str]:
    """The environment of a process that runs this project's code and has `home` for its files: no secret, no
    address of a service, none of the user's settings, and no way out by HTTP."""
    plain = {name: os.environ[name] for name in _PLAIN if name in os.environ}
    ours = {"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    return plain | dict.fromkeys(_PROXIES, _NOWHERE) | ours


def _environment(empty: str) -> dict[str, str]:
    return _reached(empty) | {_PATIENCE: _FOREVER_SECONDS}


def _reached(empty: str) -> dict[str, str]:
    """This process's environment, which names the same registry and no hub, without the signing key."""
    known = {"MLFLOW_TRACKING_URI": tracking_uri(), "MLFLOW_REGISTRY_URI": registry_uri()}
    inherited = {name: value for name, value in os.environ.items() if name != SIGNING}
    return inherited | dict.fromkeys(_CACHES, empty) | known | {"HF_HUB_OFFLINE": "1"}
