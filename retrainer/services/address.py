"""Where MLflow is, and how to speak of it without showing a password."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from retrainer.errors import SettingError

DEFAULT_URI = "sqlite:///mlflow.db"
WEBHOOK = "RETRAINER_WEBHOOK"

_RUN_ID = re.compile("[0-9a-f]{32}")
# A password may hold a slash where it stands before the last @, as SQLAlchemy reads it; elsewhere than in the
# address of a database `:5000/…@` is a port and a path.
_USERINFO = re.compile(r"(?<=://)(?:[^/\s'\"]*@|[^:/\s@'\"]*:(?!\d{1,5}/)[^\s'\"]*@)")
_DATABASE_USERINFO = re.compile(
    r"(?i)\b((?:postgres|mysql|mariadb|mssql|oracle|redis|mongodb|amqp|snowflake|clickhouse|redshift)[\w+]*://)"
    r"[^:/\s@'\"]*:[^\s'\"]*@"
)
_SECRET_PARAMETER = re.compile(
    r"(?i)([?&;#](?:[\w.%-]*(?:password|passwd|secret|token|signature|credential)"
    r"|(?:[\w.%-]*[-_.])?(?:pwd|sig|key|apikey)|odbc_connect)=)[^&;#\s'\"]+"
)


def mlflow_program() -> str:
    """How MLflow's command is typed here: it lies beside this Python, which need not be on the PATH."""
    program = Path(sys.executable).with_name("mlflow")
    if shutil.which("mlflow") == str(program):
        return program.name
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a sqlite file in the current directory; a sqlite path is made absolute.

    Raises UserError for a file inside a pod of Kubeflow: all that is written there is lost with the pod.
    """
    uri = absolute(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    if os.environ.get("RETRAINER_KFP_RUN_ID") and sqlite_path(uri) is not None:
        raise SettingError(
            "MLFLOW_TRACKING_URI is not set in this pod: runs and models would go into a file that is lost"
            " with it; name a Kubernetes secret that holds it by cluster.mlflow_secret"
        )
    return uri


def registry_uri() -> str:
    """MLFLOW_REGISTRY_URI where the registry lives apart, else the tracking address."""
    return absolute(os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri())


def is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def sqlite_path(uri: str) -> Path | None:
    """The file of a `sqlite:///…` address; None for any other address."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


def absolute(uri: str) -> str:
    path = sqlite_path(uri)
    return uri if path is None else f"sqlite:///{path.absolute()}"


def without_credentials(text: str) -> str:
    """Any text with user names, passwords and signatures taken out of the addresses in it."""
    return _SECRET_PARAMETER.sub(r"\1***", _USERINFO.sub("", _DATABASE_USERINFO.sub(r"\1", text)))


def holds_secret(text: str) -> bool:
    """Whether an address in the text has a password or a signature; a user's name alone is none."""
    signed = _SECRET_PARAMETER.search(text) or _DATABASE_USERINFO.search(text)
    return bool(signed or any(":" in found for found in _USERINFO.findall(text)))


def page_of_run(run_id: str) -> str | None:
    """MLflow's page of the run, without credentials; None for a local registry, or what is no run's id."""
    uri = tracking_uri().partition("?")[0].rstrip("/")
    known = is_server(uri) and _RUN_ID.fullmatch(run_id)
    return f"{without_credentials(uri)}/#/runs/{run_id}" if known else None


def has_webhook() -> bool:
    """Whether the environment names one; `retrainer.services.webhook` reads what it says."""
    return bool(os.environ.get(WEBHOOK, "").strip())
