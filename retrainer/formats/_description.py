"""model.json: what a model is, checked before anything is built from it. All strings in it are data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from retrainer.errors import ModelError
from retrainer.formats.files import canonical_json

DESCRIPTION = "model.json"
REQUIRED = ("family", "config", "preprocessing", "labels")
# Logits are divided by it; 1.0 where the description has none.
TEMPERATURE = "temperature"


def read_description(path: Path) -> dict[str, Any]:
    """The checked content of `path`/model.json. Raises UserError that names the key that is wrong."""
    file = path / DESCRIPTION
    if not file.is_file():
        raise ModelError(f"{path} is not a model directory: {DESCRIPTION} is missing")
    description = read_json(file, dict)
    missing = [key for key in REQUIRED if key not in description]
    if missing:
        raise ModelError(f"{file}: '{missing[0]}' is missing; it needs {', '.join(REQUIRED)}")
    for key, kind, what in (
        ("family", str, "the name of a model family"),
        ("config", dict, "an object, as the family's `restore` takes it"),
        ("preprocessing", dict, "an object"),
        ("labels", list, "a list of class names"),
        ("assets", list, "a list of file names"),
        ("task", dict, "the section `task` of the settings"),
        ("privacy", dict, "the facts of a private training"),
    ):
        if key in description and not isinstance(description[key], kind):
            raise ModelError(f"{file}: '{key}' must be {what}, found {description[key]!r}")
    _check_labels(file, description["labels"])
    _check_temperature(file, description.setdefault(TEMPERATURE, 1.0))
    _check_assets(path, description.get("assets", []))
    _check_preprocessing(file, description["preprocessing"], description.get("assets", []))
    return description


def read_history(file: Path) -> list[dict[str, Any]]:
    """Figures per epoch. Raises UserError when that is not what the file holds."""
    history: list[Any] = read_json(file, list)
    if not all(isinstance(entry, dict) for entry in history):
        raise ModelError(f"{file}: expected one object of figures an epoch")
    return history


def read_json(file: Path, kind: type) -> Any:
    """JSON of the given kind, without NaN or infinities. Raises UserError naming the file otherwise."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        canonical_json(value)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is no JSON ({error}); write it again") from None
    if not isinstance(value, kind):
        raise ModelError(f"{file}: expected {'an object' if kind is dict else 'a list'} at the top")
    return value


def _check_labels(file: Path, labels: list[Any]) -> None:
    if not all(isinstance(name, str) for name in labels):
        raise ModelError(f"{file}: 'labels' must be class names, each a string")
    if len(set(labels)) != len(labels):
        twice = next(name for name in labels if labels.count(name) > 1)
        raise ModelError(f"{file}: 'labels' has {twice!r} more than once; each class has one name")


def _check_temperature(file: Path, temperature: Any) -> None:
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not 0 < temperature < math.inf:
        raise ModelError(f"{file}: '{TEMPERATURE}' must be a number above 0, found {temperature!r}")


def _check_assets(path: Path, assets: list[Any]) -> None:
    for name in assets:
        inside = isinstance(name, str) and name not in (".", "..") and Path(name).name == name
        if not inside or not (path / name).is_file():
            raise ModelError(f"{path / DESCRIPTION}: asset {name!r} is no file in the model directory")


def _check_preprocessing(file: Path, preprocessing: dict[str, Any], assets: list[str]) -> None:
    """The two built-in kinds; what a plug-in's task and family agree upon is theirs."""
    kind, problem = preprocessing.get("kind"), ""
    if not isinstance(kind, str):
        problem = "'kind' must say what is fed: tokens, pixels, or a plug-in's own"
    elif kind == "tokens":
        if preprocessing.get("tokenizer") not in assets:
            problem = "'tokenizer' must be one of the assets"
        elif not all(_is_count(preprocessing.get(key)) for key in ("max_length", "pad_id")):
            problem = "'max_length' and 'pad_id' must be whole numbers"
        elif not isinstance(preprocessing.get("pairs"), bool):
            problem = "'pairs' must be true or false"
    elif kind == "pixels":
        size, channels = preprocessing.get("size"), preprocessing.get("channels")
        if not (isinstance(size, list) and len(size) == 2 and all(_is_count(side) and side for side in size)):
            problem = "'size' must be [height, width] in pixels"
        elif channels not in (1, 3):
            problem = "'channels' must be 1 or 3"
        elif not all(_is_scale(preprocessing.get(key), channels) for key in ("mean", "std")):
            problem = "'mean' and 'std' must be one number a channel"
    if problem:
        raise ModelError(f"{file}: preprocessing: {problem}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_scale(value: Any, channels: int) -> bool:
    return (
        isinstance(value, list) and len(value) == channels and all(isinstance(v, int | float) for v in value)
    )
