"""A process that finds nothing of this project: only what is registered, and the installed packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from retrainer.services.address import registry_uri, tracking_uri, without_credentials
from retrainer.services.keys import SIGNING

_REASON_CHARACTERS = 400
# MLflow's scoring server gives up after a minute; how long is waited is the caller's decision.
_PATIENCE = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
_CACHES = ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME")


class Failed(Exception):
    """The last line that the process said, without credentials."""


def run_isolated(script: Path, arguments: list[str], empty: Path, timeout_seconds: float) -> None:
    """Runs a Python file in the directory `empty`, which also stands for every cache of weights.

    It reaches the same tracking server and registry as this process, and no hub. Raises Failed when it
    does not end well, or not in time. The signing key is not its business.
    """
    known = {"MLFLOW_TRACKING_URI": tracking_uri(), "MLFLOW_REGISTRY_URI": registry_uri()}
    inherited = {name: value for name, value in os.environ.items() if name != SIGNING}
    limits = {"HF_HUB_OFFLINE": "1", _PATIENCE: f"{2 * timeout_seconds:.0f}"}
    environment = inherited | dict.fromkeys(_CACHES, str(empty)) | known | limits
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
        said = without_credentials(done.stderr.strip().rpartition("\n")[2])
        ended = f"the process ended with status {done.returncode}"
        raise Failed(said[:_REASON_CHARACTERS] if said and done.returncode > 0 else ended)
