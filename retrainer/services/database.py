"""MLflow's sqlite file: made once, whole, and before anyone opens it.

Several processes that open an absent file at once break it for good, and MLflow takes seconds to fill one.
So set-up makes an empty file beside the installed packages, and a project's first run copies that one.

    python -m retrainer.services.database        # part of set-up; needs no network
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from retrainer.errors import ServiceError
from retrainer.services.address import sqlite_path, tracking_uri


def template_path() -> Path:
    """Where set-up leaves the empty database of the installed MLflow version."""
    default = Path(sys.prefix) / "share" / f"retrainer-mlflow-{version('mlflow')}.db"
    return Path(os.environ.get("RETRAINER_MLFLOW_TEMPLATE") or default)


def make_template(path: Path) -> None:
    """Lets MLflow fill an empty database at `path`, which appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{aside.absolute()}"]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"MLflow could not fill {aside}: {done.stderr.strip()[-500:]}")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def ensure_database() -> None:
    """Makes the sqlite file of the tracking address when it is absent; does nothing for any other address.

    Raises UserError when its directory cannot be written.
    """
    path = sqlite_path(tracking_uri())
    if path is None or path.is_file():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f"{path.name}.lock")):
            if not path.is_file():
                _fill(path)
    except OSError as error:
        raise ServiceError(f"{path}: MLflow's database cannot be made ({error})") from None


def _fill(path: Path) -> None:
    template = template_path()
    if not template.is_file():
        make_template(path)
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.copyfile(template, aside)
    aside.replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on the file `path`, waiting for it; it falls with the process."""
    with path.open("a") as handle:  # whatever it is a link to loses nothing
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    if not template_path().is_file():
        make_template(template_path())
