"""A directory's bytes into DVC's remote, in DVC's own format, with no repository and no second copy.

RETRAINER_DVC_REMOTE names the remote, for example s3://BUCKET/PREFIX. Credentials come from where boto3 looks
for them; AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or MLFLOW_S3_ENDPOINT_URL names another server than Amazon's.
DVC itself does the work, in a process of its own: only it knows how its remotes are laid out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from retrainer.errors import ServiceError, UserError
from retrainer.services import lineage
from retrainer.services.address import without_credentials
from retrainer.services.s3 import PATIENCE, SCHEME, endpoint
from retrainer.services.scratch import scratch_directory

VARIABLE = "RETRAINER_DVC_REMOTE"
_REMOTE = "store"
_TIMEOUT_SECONDS = 3600
_CONNECT_SECONDS = 10
_TAIL_CHARACTERS = 400


def remote_url() -> str:
    """The remote that the environment names; empty for none. Raises UserError when it holds a password."""
    url = os.environ.get(VARIABLE, "").strip().rstrip("/")
    if url != without_credentials(url):
        raise ServiceError(f"{VARIABLE} holds a user or a password: take it out, and set AWS_ACCESS_KEY_ID")
    return url


def publish(directory: Path, pointer: Path) -> dict[str, Any]:
    """Pushes the directory where the environment names a remote, and writes its `.dvc` file to `pointer`.

    Returns what the file says. Without a remote nothing is pushed, and the file has no `outs`.
    """
    url = remote_url()
    outs = [push(directory, directory.name)] if url else []
    pointer.parent.mkdir(parents=True, exist_ok=True)
    scheduled = {key: time for key, time in lineage.of_process().items() if key == lineage.SCHEDULED_TIME}
    pointer.write_text(pointer_text(outs, {"remote": url, **scheduled}), encoding="utf-8")
    return {**outs[0], "remote": url} if outs else {}


def push(directory: Path, name: str) -> dict[str, Any]:
    """Uploads the directory and returns its pointer: what a `.dvc` file at `name` says of it.

    `{"md5": "….dir", "size": bytes, "nfiles": …, "hash": "md5", "path": name}`. Files that the remote has
    already are not sent again. Raises UserError when the remote cannot be reached or refuses.
    """
    with scratch_directory() as scratch:
        folder = scratch
        environment = _environment(folder)
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text(_config(remote_url()), encoding="utf-8")
        # `dvc add --to-remote` would send every file twice, under a temporary name that stays there for good.
        _dvc(folder, environment, "import-url", "--no-download", str(directory.absolute()), name)
        _dvc(folder, environment, "update", "--to-remote", f"{name}.dvc")
        told = yaml.safe_load((folder / f"{name}.dvc").read_text(encoding="utf-8"))
    pointer: dict[str, Any] = told["outs"][0]
    return pointer


def _environment(folder: Path) -> dict[str, str]:
    """DVC writes nowhere but into `folder`: in a pod, everything else is read-only."""
    places = ("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "HOME")
    kept = os.environ | {place: str(folder / place.lower()) for place in places}
    for place in places:
        (folder / place.lower()).mkdir()
    # Where boto3 finds its profiles must not move with HOME.
    for variable, file in (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")):
        kept.setdefault(variable, str(Path.home() / ".aws" / file))
    for variable, usual in PATIENCE.items():
        kept.setdefault(variable, usual)
    return kept | {"DVC_NO_ANALYTICS": "1", "TMPDIR": str(folder)}


def _config(url: str) -> str:
    """The repository's settings: one remote, and no credentials."""
    lines = ["[core]", "    no_scm = true", f"    remote = {_REMOTE}", "    check_update = false"]
    lines += [f"['remote \"{_REMOTE}\"']", f"    url = {url}"]
    if url.startswith(SCHEME):
        lines += [f"    connect_timeout = {_CONNECT_SECONDS}"]
        if server := endpoint():
            lines += [f"    endpointurl = {server}"]
    return "\n".join(lines) + "\n"


def _dvc(folder: Path, environment: dict[str, str], *words: str) -> None:
    command = [sys.executable, "-m", "dvc", *words]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _failed(f"no end after {_TIMEOUT_SECONDS} s") from None
    if done.returncode != 0:
        raise _failed(" ".join((done.stderr or done.stdout).split()).removeprefix("ERROR: "))


def _failed(reason: str) -> UserError:
    said = without_credentials(reason)[:_TAIL_CHARACTERS]
    where = without_credentials(remote_url())
    return ServiceError(
        f"{VARIABLE}={where}: the dataset could not be pushed ({said});"
        " check the address, AWS_ENDPOINT_URL_S3 and the credentials"
    )


def pointer_text(outs: list[dict[str, Any]], told: dict[str, str]) -> str:
    """The text of the `.dvc` file; `told` goes into its `meta`, which DVC leaves to people."""
    return str(yaml.safe_dump({"outs": outs, "meta": told}, sort_keys=False, allow_unicode=True))
