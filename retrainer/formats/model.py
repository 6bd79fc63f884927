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

from retrainer import __version__, extend
from retrainer.errors import ModelError, UserError
from retrainer.formats._description import (
    DESCRIPTION,
    REQUIRED,
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
from retrainer.formats.privacy import PRIVACY
from retrainer.formats.row_keys import FILE as ROW_KEYS
from retrainer.formats.row_keys import hand_down_row_keys
from retrainer.settings import Task, Training
from retrainer.tasks import make_task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._network import Body, Network
    from retrainer.tasks._protocol import Task as TaskObject

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


def seal(directory: Path, sections: Sections, dataset_sha256: str) -> str:
    """Turns weights and a description into a valid model directory, and returns its `model_sha256`.

    A trainer of your own has written `model.safetensors` (`body.…`, and `head.…` of the task), `model.json`
    (family, config, preprocessing, labels, and assets: names of further files) and those files; the files
    `history.json` and `row_keys.parquet`, and the description's `temperature` and `privacy`, are optional.
    `sections` holds `task` at least. Raises UserError when it is no whole model.
    """
    (directory / MANIFEST).unlink(missing_ok=True)  # until all is well again, this is no model
    described = read_description(directory)
    assets = sorted(described.get("assets", []))
    _refuse_strangers(directory, assets)
    if not (directory / HISTORY).is_file():
        write_json(directory / HISTORY, [])
    history = read_history(directory / HISTORY)
    description = {key: described[key] for key in (*REQUIRED, TEMPERATURE, PRIVACY) if key in described}
    description |= {"assets": assets, "task": sections["task"]}
    write_json(directory / DESCRIPTION, description | {"dataset_sha256": dataset_sha256})
    network = load_network(directory)
    settings = without_paths(sections)
    write_json(directory / SETTINGS, settings)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    write_text(directory / CARD, model_card(description, settings, dataset_sha256, history, parameters))
    return _write_manifest(directory)


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
        if path.is_file() and path.relative_to(directory).as_posix() not in expected:
            raise ModelError(f"{path} is not named in 'assets' of {DESCRIPTION}; name it there, or remove it")


def check_model(path: Path) -> dict[str, Any]:
    """Raises UserError unless `path` is a valid model: sealed, built as described, filled strictly."""
    description = read_model(path)
    load_network(path)
    return description


def load_network(path: Path) -> Network:
    """The network of a model directory, on the CPU in eval mode. Its files are taken as verified.

    Raises UserError when the description and the weights do not make one network.
    """
    from retrainer.models._network import Network
    from retrainer.models._start import unfilled

    description = read_description(path)
    tensors = _read_weights(path / WEIGHTS)
    with unfilled():
        body = _restore(path / DESCRIPTION, description)
        body.preprocessing = description["preprocessing"]
        body.assets = {name: (path / name).read_bytes() for name in description.get("assets", [])}
        network = Network(body, task_of(path, description).head(body, Training.parse({}, "training")))
    _require_outputs(path, network.head, tensors, description["labels"])
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path / WEIGHTS} does not fit 'config' of {DESCRIPTION}: {reason}") from None
    return network.eval()


def task_of(path: Path, description: dict[str, Any]) -> TaskObject:
    """The task that the model at `path` was trained for."""
    section = Task.parse(description.get("task", {}), f"{path / DESCRIPTION}: task")
    return make_task(section, tuple(description["labels"]))


def _require_outputs(path: Path, head: nn.Module, tensors: dict[str, Tensor], labels: list[str]) -> None:
    """Of a linear head with an output per label; what else does not fit is said when it is filled."""
    bias = tensors.get("head.bias")
    if bias is not None and getattr(head, "out_features", bias.shape[0]) == len(labels) != bias.shape[0]:
        raise ModelError(
            f"{path / DESCRIPTION} names {len(labels)} labels, but {WEIGHTS} has a head of {bias.shape[0]};"
            " name each class once, in the order of the outputs"
        )


def _read_weights(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from retrainer.models._start import first_not_finite

    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} cannot be read as safetensors ({error}); train again") from None
    bad = first_not_finite(tensors)
    if bad is not None:
        raise ModelError(f"{file}: {bad} holds values that are no numbers; train with a lower learning rate")
    return tensors


def _restore(file: Path, description: dict[str, Any]) -> Body:
    """The family's architecture, with values still to be filled."""
    family = description["family"]
    module = extend.load("models", family, f"{file}: family")
    try:
        body: Body = module.restore(description["config"])
    except UserError:
        raise
    except Exception as error:  # whatever a family meets in a config that is not its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"{file}: family {family} cannot be built from 'config': {reason}") from None
    return body
