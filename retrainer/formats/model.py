"""The model on disk: a self-describing directory in which nothing is pickled.

    model.safetensors   every value of the body (`body.…`) and the head (`head.…`), float32
    model.json          family, architecture, preprocessing, task, class names, the dataset's content hash
    tokenizer.json, …   what the preprocessing needs
    history.json        figures per epoch, none of them a time
    settings.json       the settings that training was given
    README.md           the model card
    manifest.json       format version, sha256 per file, and `model_sha256` over them: the model's identity

No run id, time, host, image or path is in it, so the same training gives the same bytes anywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer import __version__, extend
from retrainer.errors import UserError
from retrainer.formats.files import (
    MANIFEST,
    digest_of,
    hash_files,
    read_manifest,
    whole_directory,
    write_json,
    write_text,
)
from retrainer.formats.model_card import model_card
from retrainer.settings import Task

if TYPE_CHECKING:
    from retrainer.models._network import Network

KIND = "model"
FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
HISTORY = "history.json"
SETTINGS = "settings.json"
CARD = "README.md"
_REQUIRED = ("family", "config", "preprocessing", "labels")

Sections = dict[str, dict[str, Any]]


def write_model(
    out: Path,
    network: Network,
    *,
    family: str,
    task: Task,
    labels: tuple[str, ...],
    sections: Sections,
    dataset_sha256: str,
    history: list[dict[str, Any]],
) -> str:
    """Writes a whole model directory and returns its `model_sha256`.

    `sections` are the settings that training was given; of a local path in them only the last part is kept.
    Raises UserError when a weight is not a number.
    """
    with whole_directory(out) as directory:
        write_parts(directory, network, family=family, labels=labels, history=history)
        return seal(directory, sections | {"task": task.plain()}, dataset_sha256)


def write_parts(
    directory: Path, network: Network, *, family: str, labels: tuple[str, ...], history: list[dict[str, Any]]
) -> None:
    """What a trainer leaves for `seal`: weights, assets, description and history."""
    from safetensors.torch import save_file

    body = network.description
    directory.mkdir(parents=True, exist_ok=True)
    # Copies: tied weights share memory, which the format does not store.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    save_file(tensors, directory / WEIGHTS)
    for name, content in body.assets.items():
        (directory / name).write_bytes(content)
    description = {
        "family": family,
        "config": body.config,
        "preprocessing": body.preprocessing,
        "labels": list(labels),
        "assets": sorted(body.assets),
    }
    write_json(directory / DESCRIPTION, description)
    write_json(directory / HISTORY, history)


def seal(directory: Path, sections: Sections, dataset_sha256: str) -> str:
    """Turns weights and a description into a valid model directory, and returns its `model_sha256`.

    A trainer of your own has written `model.safetensors`, `model.json` (family, config, preprocessing, labels)
    and the assets named in it; `history.json` is optional. Raises UserError when they make no whole model.
    """
    description = _read_description(directory)
    assets = sorted(description.get("assets", ()))
    task = sections.get("task", {})
    known = {key: description[key] for key in _REQUIRED}
    write_json(directory / DESCRIPTION, known | {"assets": assets, "task": task, "dataset_sha256": dataset_sha256})
    if not (directory / HISTORY).is_file():
        write_json(directory / HISTORY, [])
    write_json(directory / SETTINGS, without_paths(sections))
    history = json.loads((directory / HISTORY).read_text(encoding="utf-8"))
    network = load_network(directory)
    parameters = sum(p.numel() for p in network.parameters())
    write_text(directory / CARD, model_card(known, sections, dataset_sha256, history, parameters))
    _refuse_strangers(directory, assets)
    files = hash_files(directory)
    digest = digest_of(files)
    manifest = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "retrainer": __version__,
        "files": files,
        "model_sha256": digest,
    }
    write_json(directory / MANIFEST, manifest)
    return digest


def _refuse_strangers(directory: Path, assets: list[str]) -> None:
    expected = {WEIGHTS, DESCRIPTION, HISTORY, SETTINGS, CARD, *assets}
    strangers = sorted(hash_files(directory).keys() - expected)
    if strangers:
        raise UserError(f"{DESCRIPTION}: {strangers[0]} is in the model directory but not named in 'assets'")


def without_paths(sections: Sections) -> Sections:
    """The sections with a local path of weights cut to its last part: the digest beside it says which they were."""
    backbone = dict(sections.get("backbone", {}))
    weights = str(backbone.get("weights", ""))
    if weights.startswith(("/", "~", ".")) or Path(weights).exists():
        backbone["weights"] = Path(weights).name
    return sections | ({"backbone": backbone} if backbone else {})


def read_model(path: Path) -> dict[str, Any]:
    """The description of a sealed model, with `model_sha256` added, after every file's hash was checked."""
    manifest = read_manifest(path, KIND, FORMAT_VERSION)
    if manifest["model_sha256"] != digest_of(manifest["files"]):
        raise UserError(f"{path / MANIFEST} was altered: model_sha256 is not the digest of its files")
    return _read_description(path) | {"model_sha256": manifest["model_sha256"]}


def check_model(path: Path) -> dict[str, Any]:
    """Raises UserError unless `path` is a valid model: sealed, rebuilt from its description, filled strictly."""
    description = read_model(path)
    load_network(path)
    return description


def load_network(path: Path) -> Network:
    """The network of a model directory, on the CPU in eval mode. Its files are taken as verified."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from retrainer.models._network import Network

    description = _read_description(path)
    body = extend.load("models", description["family"], f"{DESCRIPTION} family").restore(description["config"])
    body.preprocessing = description["preprocessing"]
    body.assets = {name: _asset(path, name) for name in description.get("assets", ())}
    network = Network(body, len(description["labels"]))
    try:
        tensors = load_file(path / WEIGHTS)
        network.load_state_dict(tensors, strict=True)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path / WEIGHTS} cannot be read as safetensors: {error}") from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path / WEIGHTS} does not fit {DESCRIPTION} (config and labels): {reason}") from None
    bad = next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)
    if bad is not None:
        raise UserError(f"{path / WEIGHTS}: {bad} holds values that are no numbers; lower training.learning_rate")
    return network.eval()


def _asset(path: Path, name: str) -> bytes:
    file = path / name
    if Path(name).name != name or not file.is_file():
        raise UserError(f"{path / DESCRIPTION}: asset {name!r} is no file in the model directory")
    return file.read_bytes()


def _read_description(path: Path) -> dict[str, Any]:
    file = path / DESCRIPTION
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not a model directory: {DESCRIPTION} is missing") from None
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error})") from None
    missing = [key for key in _REQUIRED if not isinstance(description, dict) or key not in description]
    if missing:
        raise UserError(f"{file}: '{missing[0]}' is missing; it needs {', '.join(_REQUIRED)}")
    labels = description["labels"]
    if not labels or len(set(labels)) != len(labels) or not all(isinstance(name, str) for name in labels):
        raise UserError(f"{file}: 'labels' must be different class names")
    return dict(description)
