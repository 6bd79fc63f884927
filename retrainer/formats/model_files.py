"""Reading a model directory without building its network: which files it has, and whether they are whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrainer.errors import ModelError
from retrainer.formats._description import DESCRIPTION, read_description
from retrainer.formats.files import MANIFEST, digest_of, read_manifest

KIND = "model"
# 2: logits are divided by the description's `temperature`; an older reader would give other probabilities.
FORMAT_VERSION = 2
READABLE = (1, FORMAT_VERSION)
WEIGHTS = "model.safetensors"
HISTORY = "history.json"
SETTINGS = "settings.json"
CARD = "README.md"
# The sections of SETTINGS that say what a model is to become; `compute` says where it is made.
WHAT_IS_TRAINED = ("task", "backbone", "training")


def read_model(path: Path) -> dict[str, Any]:
    """The description of a sealed model, with `model_sha256` added, after every file's hash was checked.

    Raises UserError when a file is missing, altered or added, or the format is another.
    """
    manifest = read_manifest(path, KIND, *READABLE)
    files = manifest.get("files", {})
    for name in (WEIGHTS, DESCRIPTION, HISTORY, SETTINGS, CARD):
        if name not in files:
            raise ModelError(f"{path / name} is missing; train again, or seal the directory again")
    if manifest.get("model_sha256") != digest_of(files):
        raise ModelError(f"{path / MANIFEST} was altered: model_sha256 is not its files' digest; train again")
    return read_description(path) | {"model_sha256": manifest["model_sha256"]}


def training_digest(settings: Mapping[str, Any]) -> str:
    """The digest of what is trained, whatever the machine: equal for settings that want the same model."""
    return digest_of({name: settings[name] for name in WHAT_IS_TRAINED if name in settings})


def model_mb(path: Path) -> float:
    """The model directory's files in 10^6 bytes."""
    return round(sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6, 3)
