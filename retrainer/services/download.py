"""A registered version's files, on this machine."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from retrainer.errors import UserError
from retrainer.formats.files import MANIFEST, whole_directory
from retrainer.formats.model_files import read_model
from retrainer.services.address import without_credentials
from retrainer.services.readers import RegisteredVersion

# Where a registered version keeps its model directory.
MODEL_INSIDE = "artifacts/model"


def model_directory(version: RegisteredVersion, into: Path) -> Path:
    """The version's model directory: where it lies when that is this machine, else fetched to `into`.

    Raises UserError when it is not this project's, cannot be had, or is not the model that was registered.
    """
    _refuse_strangers(version)
    here = _local(version.source)
    directory = here / MODEL_INSIDE if here else _fetch(version, MODEL_INSIDE, into)
    return verified(directory, version.model_sha256)


def registered_files(version: RegisteredVersion, into: Path) -> Path:
    """All that is registered of the version, not verified: where it lies on this machine, else in `into`.

    Raises UserError when it is not this project's, or cannot be had.
    """
    _refuse_strangers(version)
    return _local(version.source) or _fetch(version, "", into)


def _refuse_strangers(version: RegisteredVersion) -> None:
    if not version.model_sha256:
        raise UserError(f"models:/{version.name}/{version.version} was not registered by retrainer")


def _local(source: str) -> Path | None:
    parts = urlsplit(source)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _fetch(version: RegisteredVersion, inside: str, into: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    from retrainer.services.connection import client

    client()
    uri = f"models:/{version.name}/{version.version}"
    with whole_directory(into) as aside, tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        try:
            found = Path(download_artifacts(artifact_uri=f"{uri}/{inside}".rstrip("/"), dst_path=scratch))
        except (MlflowException, OSError) as error:
            reason = without_credentials(" ".join(str(error).split()))
            raise UserError(f"{uri}: its files cannot be fetched ({reason})") from None
        shutil.copytree(found, aside, dirs_exist_ok=True)
    return into


def verified(directory: Path, model_sha256: str) -> Path:
    """The directory, when it holds exactly this model. Raises UserError otherwise."""
    if not (directory / MANIFEST).is_file():
        raise UserError(f"{directory}: the registered model's files are gone; restore them, or train again")
    found = str(read_model(directory)["model_sha256"])
    if found != model_sha256:
        raise UserError(f"{directory} was altered: it holds {found[:12]}, not {model_sha256[:12]}")
    return directory
