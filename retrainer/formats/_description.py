"""model.json: what a model is, checked before anything is built from it. All strings in it are data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retrainer.errors import ModelError
from retrainer.formats.files import canonical_json
from retrainer.formats.model_keys import PREPROCESSING, TOKENIZERS, Description

DESCRIPTION = "model.json"
# Logits are divided by it.
TEMPERATURE = "temperature"
# Keys that may be left out, and what that means.
_DEFAULTS = {name: Description.model_fields[name].default for name in ("assets", TEMPERATURE)}


def read_description(path: Path) -> dict[str, Any]:
    """The checked content of `path`/model.json, defaults in the place of what it leaves out.

    Raises ModelError that names the key that is wrong.
    """
    file = path / DESCRIPTION
    if not file.is_file():
        raise ModelError(
            f"{path} is not a model directory: {DESCRIPTION} is missing; docs/own-trainer.md says"
            " what it holds"
        )
    description: dict[str, Any] = _DEFAULTS | read_json(file, dict)
    Description.check(description, str(file))
    _check_labels(file, description["labels"])
    _check_assets(path, description["assets"])
    _check_preprocessing(file, description["preprocessing"], description["assets"])
    return description


def read_history(file: Path) -> list[dict[str, Any]]:
    """Figures per epoch. Raises ModelError when that is not what the file holds."""
    history: list[Any] = read_json(file, list)
    if not all(isinstance(entry, dict) for entry in history):
        raise ModelError(f"{file}: expected one object of figures an epoch, as [{{'epoch': 1}}]")
    return history


def read_json(file: Path, kind: type) -> Any:
    """JSON of the given kind, without NaN or infinities. Raises ModelError naming the file otherwise."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        canonical_json(value)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is no JSON ({error}); write it again") from None
    if not isinstance(value, kind):
        raise ModelError(f"{file}: expected {'an object' if kind is dict else 'a list'} at the top")
    return value


def _check_labels(file: Path, labels: list[str]) -> None:
    if len(set(labels)) != len(labels):
        twice = next(name for name in labels if labels.count(name) > 1)
        raise ModelError(f"{file}: 'labels' has {twice!r} more than once; name each class once")


def _check_assets(path: Path, assets: list[str]) -> None:
    for name in assets:
        inside = name not in (".", "..") and Path(name).name == name
        if not inside or not (path / name).is_file():
            raise ModelError(
                f"{path / DESCRIPTION}: asset {name!r} is no file in the model directory; write it there, or"
                " take its name out of 'assets'"
            )


def _check_preprocessing(file: Path, preprocessing: dict[str, Any], assets: list[str]) -> None:
    """What a plug-in's task and family agree upon is theirs, but for its name."""
    kind, where = preprocessing.get("kind"), f"{file}: preprocessing"
    if not isinstance(kind, str):
        raise ModelError(
            f"{where}: 'kind' is missing; add what the network is fed: {', '.join(PREPROCESSING)}, or a"
            " plug-in's own word"
        )
    if kind in PREPROCESSING:
        PREPROCESSING[kind].check(preprocessing, where)
        for key in TOKENIZERS:
            if (name := preprocessing.get(key)) is not None and name not in assets:
                raise ModelError(f"{where}: '{key}' is {name!r}, no file that 'assets' names; name it there")
