"""The model on disk: a self-describing directory in which nothing is pickled.

    model.safetensors   every value of the body (`body.…`) and the head (`head.…`), float32
    model.json          family, architecture, preprocessing, task, class names (none where the task has none),
                        the dataset's content hash, `temperature`, by which logits are divided (absent: 1),
                        and of a private training `privacy` (formats/privacy.py)
    tokenizer.json, …   what the preprocessing needs
    history.json        figures per epoch, none of them a time
    settings.json       the settings that training was given
    row_keys.parquet    which rows it was trained, chosen and tested on (formats/row_keys.py), if it is known
    README.md           the model card
    manifest.json       format version, sha256 per file, and `model_sha256` over them: the model's identity

No run id, time, host, image or path is in it, so the same training gives the same bytes anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer import __version__
from retrainer.errors import ModelError
from retrainer.formats._description import (
    DESCRIPTION,
    TEMPERATURE,
    read_description,
    read_history,
)
from retrainer.formats._paths import without_paths
from retrainer.formats.files import (
    MANIFEST,
    digest_of,
    hash_files,
    whole_directory,
    write_json,
    write_text,
)
from retrainer.formats.model_card import model_card
from retrainer.formats.model_files import CARD, FORMAT_VERSION, HISTORY, KIND, SETTINGS, WEIGHTS, read_model
from retrainer.formats.model_keys import FROM_TRAINER, Description
from retrainer.formats.network import load_network, module_of
from retrainer.formats.pickles import is_pickle
from retrainer.formats.privacy import PRIVACY
from retrainer.formats.row_keys import FILE as ROW_KEYS
from retrainer.formats.row_keys import hand_down_row_keys

if TYPE_CHECKING:
    from torch import Tensor

    from retrainer.models._network import Network

Sections = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Trained:
    """A network after training, and what is told of it. Its logits are divided by `temperature`.

    `privacy`: of a private training (formats/privacy.py).
    """

    network: Network
    family: str
    labels: tuple[str, ...]
    history: list[dict[str, Any]] = field(default_factory=list)
    temperature: float = 1.0
    privacy: dict[str, Any] | None = None


def write_model(
    out: Path,
    trained: Trained,
    sections: Sections,
    dataset_sha256: str,
    dataset: Path | None = None,
    start: Path | str | None = None,
) -> str:
    """Writes a whole model directory and returns its `model_sha256`.

    `sections` are the settings that training was given, `task` at least; of a local path in them only the
    last part is kept. The row keys of `dataset`, the directory, are copied, and those that `start`, which
    training began with, has learned from. Raises UserError when a weight is not a number, or the family
    cannot make the network again.
    """
    with whole_directory(out) as directory:
        write_parts(directory, trained)
        if dataset is not None:
            hand_down_row_keys(dataset, start, directory)
        return seal(directory, sections, dataset_sha256)


def write_parts(directory: Path, trained: Trained) -> None:
    """What a trainer leaves for `seal`: weights, assets, description and history."""
    from safetensors.torch import save_file

    network, body = trained.network, trained.network.description
    directory.mkdir(parents=True, exist_ok=True)
    save_file({name: _plain(value) for name, value in network.state_dict().items()}, directory / WEIGHTS)
    for name, content in body.assets.items():
        (directory / name).write_bytes(content)
    description = {
        "family": trained.family,
        "config": body.config,
        "preprocessing": body.preprocessing,
        "labels": list(trained.labels),
        "assets": sorted(body.assets),
        TEMPERATURE: trained.temperature,
    }
    if trained.privacy is not None:
        description[PRIVACY] = trained.privacy
    write_json(directory / DESCRIPTION, description)
    # safetensors keeps its files from everyone else; a registry or a container may run as another user.
    (directory / WEIGHTS).chmod((directory / DESCRIPTION).stat().st_mode & 0o777)
    write_json(directory / HISTORY, trained.history)


def _plain(value: Tensor) -> Tensor:
    """A copy of its own (what tied weights share cannot be stored), float32 if it holds floats."""
    from torch import contiguous_format

    value = value.detach().cpu()
    value = value.float() if value.is_floating_point() else value
    return value.clone(memory_format=contiguous_format)


def seal(directory: Path, sections: Sections, dataset_sha256: str, network: Network | None = None) -> str:
    """Turns what a trainer has left (docs/own-trainer.md) into a model directory; returns its `model_sha256`.

    `sections` holds `task` at least. `network`: what `unsealed_network` has made of the directory; None: not
    checked yet. Raises UserError when it is no whole model.
    """
    (directory / MANIFEST).unlink(missing_ok=True)  # until all is well again, this is no model
    if not (directory / HISTORY).is_file():
        write_json(directory / HISTORY, [])
    network = unsealed_network(directory, sections["task"]) if network is None else network
    description = _to_keep(directory) | {"task": sections["task"]}
    write_json(directory / DESCRIPTION, description | {"dataset_sha256": dataset_sha256})
    settings = without_paths(sections)
    write_json(directory / SETTINGS, settings)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    history = read_history(directory / HISTORY)
    write_text(directory / CARD, model_card(description, settings, dataset_sha256, history, parameters))
    return _write_manifest(directory)


def unsealed_network(directory: Path, task: dict[str, Any]) -> Network:
    """The network of what a trainer has left, checked as `seal` does; nothing is written.

    `task` is the section of the settings. Raises UserError that names the key, the tensor or the file which
    is wrong, and the cure.
    """
    described = read_description(directory)
    _refuse_unknown(directory / DESCRIPTION, described)
    _refuse_strangers(directory, described["assets"])
    if (directory / HISTORY).is_file():
        read_history(directory / HISTORY)
    return load_network(directory, task)


def _to_keep(directory: Path) -> dict[str, Any]:
    described = read_description(directory)
    kept = {key: described[key] for key in FROM_TRAINER if key in described}
    return kept | {"assets": sorted(described["assets"])}


def _refuse_unknown(file: Path, described: dict[str, Any]) -> None:
    """A key that nobody reads is a misspelt one: what a model's reader may pass over, its writer may not."""
    Description.refuse_unknown(described, str(file))
    family = described["family"]
    module = module_of(file, family)
    if hasattr(module, "Config"):
        module.Config.refuse_unknown(described["config"], f"{file}: config of {family}")


def _write_manifest(directory: Path) -> str:
    """Returns the `model_sha256`."""
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
    """Whatever is in the directory travels with the model: only what is meant to."""
    expected = {WEIGHTS, DESCRIPTION, HISTORY, SETTINGS, CARD, ROW_KEYS, *assets}
    for path in sorted(directory.rglob("*")):
        if path.is_symlink():
            raise ModelError(f"{path} is a link; copy what it stands for into the model directory")
        if not path.is_file():
            continue
        if is_pickle(path):
            raise ModelError(
                f"{path} is a pickle, and to load one runs whatever code is in it; write tensors to {WEIGHTS}"
                " and everything else as JSON"
            )
        if path.relative_to(directory).as_posix() not in expected:
            raise ModelError(f"{path} is not named in 'assets' of {DESCRIPTION}; name it there, or remove it")


def check_model(path: Path) -> dict[str, Any]:
    """Raises UserError unless `path` is a valid model: sealed, built as described, filled strictly."""
    description = read_model(path)
    load_network(path)
    return description
