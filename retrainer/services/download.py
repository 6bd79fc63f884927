"""A registered version's files, on this machine."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from retrainer.errors import ModelError, ServiceError
from retrainer.formats.files import MANIFEST, digest_of, sha256_file, whole_directory
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
    here = local_path(version.source)
    directory = here / MODEL_INSIDE if here else _fetch(version, MODEL_INSIDE, into)
    return verified(directory, version.model_sha256)


def registered_files(version: RegisteredVersion, into: Path) -> Path:
    """All that is registered of the version, not verified: where it lies on this machine, else in `into`.

    Raises UserError when it is not this project's, or cannot be had.
    """
    _refuse_strangers(version)
    return local_path(version.source) or _fetch(version, "", into)


def model_files(version: RegisteredVersion, names: Iterable[str], into: Path) -> dict[str, Path]:
    """Some files of the version's model, each checked; from elsewhere only these are fetched, to `into`.

    A name that the model does not have is left out. Raises UserError when one is not what was registered.
    """
    _refuse_strangers(version)
    manifest = _model_file(version, MANIFEST, into)
    if not manifest.is_file():
        raise ModelError(f"{manifest}: the registered model's files are gone; restore them, or train again")
    files = json.loads(manifest.read_text(encoding="utf-8")).get("files", {})
    if digest_of(files) != version.model_sha256:
        raise ModelError(f"{manifest} was altered: it is not the manifest of version {version.version}")
    found = {name: _model_file(version, name, into) for name in names if name in files}
    for name, path in found.items():
        if sha256_file(path) != files[name]:
            raise ModelError(f"{path} was altered: its sha256 does not match {MANIFEST}")
    return found


def _model_file(version: RegisteredVersion, name: str, into: Path) -> Path:
    inside = f"{MODEL_INSIDE}/{name}"
    here = local_path(version.source)
    return here / inside if here else _download(version, inside, into)


def _refuse_strangers(version: RegisteredVersion) -> None:
    if not version.model_sha256:
        raise ModelError(f"models:/{version.name}/{version.version} was not registered by retrainer")


def local_path(source: str) -> Path | None:
    """The path of a place that is on this machine; None for any other."""
    parts = urlsplit(source)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _fetch(version: RegisteredVersion, inside: str, into: Path) -> Path:
    with whole_directory(into) as aside, tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        shutil.copytree(_download(version, inside, Path(scratch)), aside, dirs_exist_ok=True)
    return into


def _download(version: RegisteredVersion, inside: str, into: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    from retrainer.services.connection import client

    client()
    uri = f"models:/{version.name}/{version.version}"
    try:
        return Path(download_artifacts(artifact_uri=f"{uri}/{inside}".rstrip("/"), dst_path=str(into)))
    except (MlflowException, OSError) as error:
        reason = without_credentials(" ".join(str(error).split()))
        raise ServiceError(f"{uri}: its files cannot be fetched ({reason})") from None


def verified(directory: Path, model_sha256: str) -> Path:
    """The directory, when it holds exactly this model. Raises UserError otherwise."""
    if not (directory / MANIFEST).is_file():
        raise ServiceError(
            f"{directory}: the registered model's files are gone; restore them, or train again"
        )
    found = str(read_model(directory)["model_sha256"])
    if found != model_sha256:
        raise ModelError(f"{directory} was altered: it holds {found[:12]}, not {model_sha256[:12]}")
    return directory
