"""From a model directory to its network: built as model.json says, filled with model.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer import extend
from retrainer.errors import ModelError, SettingError, UserError
from retrainer.formats._description import DESCRIPTION, read_description
from retrainer.formats.model_files import WEIGHTS
from retrainer.formats.pickles import holds_pickle
from retrainer.settings import Task, Training
from retrainer.tasks import make_task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._network import Body, Network
    from retrainer.tasks._protocol import Task as TaskObject

Sections = Mapping[str, Mapping[str, Any]]
_SAVE = f"write the network's tensors with safetensors.torch.save_file(tensors, '{WEIGHTS}')"
_NAMES = "the body's names begin with 'body.', the head's with 'head.'"


def load_network(path: Path, task: Mapping[str, Any] | None = None) -> Network:
    """The network of a model directory, on the CPU in eval mode. Its files are taken as verified.

    `task`: the section, for a directory whose model.json does not say it yet. Raises UserError when the
    description and the weights do not make one network.
    """
    from retrainer.models._network import Network
    from retrainer.models._start import unfilled

    description = read_description(path)
    if task is not None:
        description["task"] = task
    tensors = _read_weights(path / WEIGHTS)
    with unfilled():
        body = _restore(path / DESCRIPTION, description)
        body.preprocessing = description["preprocessing"]
        body.assets = {name: (path / name).read_bytes() for name in description["assets"]}
        network = Network(body, task_of(path, description).head(body, Training.parse({}, "training")))
    _require_outputs(path, network.head, tensors, description["labels"])
    _require_fit(path / WEIGHTS, network.state_dict(), tensors)
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path / WEIGHTS} does not fit 'config' of {DESCRIPTION}: {reason}") from None
    return network.eval()


def task_of(path: Path, description: dict[str, Any]) -> TaskObject:
    """The task that the model at `path` was trained for."""
    section = Task.parse(description.get("task") or {}, f"{path / DESCRIPTION}: task")
    return make_task(section, tuple(description["labels"]))


def module_of(file: Path, family: str) -> Any:
    """The code of the family that the description `file` names. Raises UserError where there is none."""
    try:
        module = extend.load("models", family, f"{file}: family")
    except SettingError as error:
        raise ModelError(str(error)) from None
    if not hasattr(module, "restore"):
        raise ModelError(
            f"{file}: 'family' is {family!r}, which has no function restore(config) → Body; write one there,"
            " or name another file"
        )
    return module


def _restore(file: Path, description: dict[str, Any]) -> Body:
    """The family's architecture, with values still to be filled."""
    family, config = description["family"], description["config"]
    module = module_of(file, family)
    if hasattr(module, "Config"):
        module.Config.check(config, f"{file}: config of {family}")
    try:
        body: Body = module.restore(config)
    except UserError:
        raise
    except Exception as error:  # whatever a family meets in a config that is not its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"{file}: family {family} cannot be built from 'config': {reason}") from None
    return body


def _read_weights(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from retrainer.models._start import first_not_finite

    if not file.is_file():
        raise ModelError(f"{file} is missing; {_SAVE}")
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        if holds_pickle(file):
            raise ModelError(f"{file} is a pickle, as torch.save writes it; {_SAVE}") from None
        raise ModelError(f"{file} cannot be read as safetensors ({error}); train again") from None
    bad = first_not_finite(tensors)
    if bad is not None:
        raise ModelError(f"{file}: {bad} holds values that are no numbers; train with a lower learning rate")
    return tensors


def _require_outputs(path: Path, head: nn.Module, tensors: dict[str, Tensor], labels: list[str]) -> None:
    """Of a linear head with an output per label; what else does not fit is said by `_require_fit`."""
    bias = tensors.get("head.bias")
    if bias is None or bias.dim() != 1:
        return
    if getattr(head, "out_features", len(bias)) == len(labels) != len(bias):
        raise ModelError(
            f"{path / DESCRIPTION} names {len(labels)} labels, but {WEIGHTS} has a head of {len(bias)};"
            " name each class once, in the order of the outputs"
        )


def _require_fit(file: Path, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raises ModelError that names the first tensor which is missing, not known, or of another shape."""
    missing = [name for name in own if name not in given]
    unknown = [name for name in given if name not in own]
    reshaped = [name for name in own if name in given and own[name].shape != given[name].shape]
    if missing:
        lacks = f"has no '{missing[0]}' {list(own[missing[0]].shape)}{_more(missing)}"
        has = f", and '{unknown[0]}'{_more(unknown)} instead" if unknown else ""
        raise ModelError(f"{file} {lacks}{has}: 'config' of {DESCRIPTION} asks for it; {_NAMES}")
    if unknown:
        raise ModelError(
            f"{file} has '{unknown[0]}'{_more(unknown)}, for which 'config' of {DESCRIPTION} makes no place;"
            f" leave it out, or name it as the network does ({_NAMES})"
        )
    if reshaped:
        name = reshaped[0]
        shapes = (
            f"is {list(given[name].shape)}, and 'config' of {DESCRIPTION} makes it {list(own[name].shape)}"
        )
        raise ModelError(f"{file}: '{name}'{_more(reshaped)} {shapes}; write the config of this network")


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
