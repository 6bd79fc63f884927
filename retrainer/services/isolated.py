"""A process that finds nothing of this project: only what is registered, and the installed packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from retrainer.services.address import registry_uri, tracking_uri, without_credentials
from retrainer.services.keys import SIGNING

_TAIL_CHARACTERS = 400
_CACHES = ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME")


class Failed(Exception):
    """The end of what the process said, without credentials."""


def run_isolated(script: Path, arguments: list[str], empty: Path, timeout_seconds: float) -> None:
    """Runs a Python file in the directory `empty`, which also stands for every cache of weights.

    It reaches the same tracking server and registry as this process, and no hub. Raises Failed when it
    does not end well, or not in time. The signing key is not its business.
    """
    known = {"MLFLOW_TRACKING_URI": tracking_uri(), "MLFLOW_REGISTRY_URI": registry_uri()}
    inherited = {name: value for name, value in os.environ.items() if name != SIGNING}
    environment = inherited | dict.fromkeys(_CACHES, str(empty)) | known | {"HF_HUB_OFFLINE": "1"}
    # -I: no PYTHONPATH, no user site, no current directory. -B: nothing is written beside registered code.
    command = [sys.executable, "-I", "-B", str(script), *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=empty,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"no answer within {timeout_seconds:.0f} s") from None
    if done.returncode != 0:
        said = without_credentials(" ".join(done.stderr.split()))
        raise Failed(said[-_TAIL_CHARACTERS:] or f"exit status {done.returncode}")
