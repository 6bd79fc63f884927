"""How a body gets its first values: random ones from a seed alone, or those of a file.

Legend: B rows of a batch, D feature width, C channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from retrainer.errors import ModelError, SettingError
from retrainer.formats.model_files import DESCRIPTION, WEIGHTS, read_model
from retrainer.models._network import Batch, Body

BODY = "body."
# Functions of torch.nn.init, or what stands in for them. Methods of a tensor by these names do draw: some
# of their callers draw again until all values are in bounds, which undrawn ones may never be.
_DRAWS = {"normal_", "uniform_", "kaiming_uniform_"}
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Random initial values inside depend on `seed` alone; the global generator is as before outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def unfilled() -> Iterator[None]:
    """Networks made inside may hold any values at all: for those that are filled right after.

    Drawing values takes most of the time of making a network, and would move the global generator.
    """
    with torch.random.fork_rng(devices=[]), _NoDraws():
        yield


class _NoDraws(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        skipped = isinstance(func, FunctionType) and func.__name__ in _DRAWS
        return kwargs["tensor"] if skipped else func(*args, **kwargs)


def require_file(weights: Path | str, family: str) -> Path:
    """A file or directory, for a family without published weights. Raises SettingError for a name of some."""
    if not isinstance(weights, Path):
        raise SettingError(
            f"backbone.weights: no {weights} weights are published for {family}; set none or a file"
        )
    return weights


def is_ours(weights: Path) -> bool:
    """Whether this is a model directory of this project (and not one in Hugging Face layout)."""
    return weights.is_dir() and (weights / DESCRIPTION).is_file()


def our_model(weights: Path, family: str) -> dict[str, Any]:
    """The description (config, preprocessing, …) of one of our model directories, its files' hashes checked.

    Raises UserError when it is not whole, or of another family.
    """
    description = read_model(weights)
    if description["family"] != family:
        raise SettingError(
            f"backbone.weights: {weights.name} is of family {description['family']!r}; set backbone.family to"
            f" it or choose weights of family {family!r}"
        )
    return description


def read_tensors(weights: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, of a directory that holds one, or a body's out of our own."""
    path = weights / WEIGHTS if weights.is_dir() else weights
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise SettingError(f"backbone.weights: {path.name} cannot be read as safetensors ({error})") from None
    if is_ours(weights):
        return {name.removeprefix(BODY): t for name, t in tensors.items() if name.startswith(BODY)}
    return tensors


def fill(module: nn.Module, tensors: dict[str, Tensor], spare: Iterable[str] = ()) -> None:
    """Loads every value of `module`. Raises UserError naming what is missing, left over, misshapen or NaN.

    `spare` names parts that may be left over, as the head that was taken off. Filters of 3 channels fit a
    network of 1: their sum sees a grey image as they saw it in all three.
    """
    inside = tuple(f"{part}." for part in spare)
    own = module.state_dict()
    given = {name: t for name, t in tensors.items() if name in own or not name.startswith(inside)}
    given = {name: _in_grey(t, own[name]) if name in own else t for name, t in given.items()}
    # Old files lack BatchNorm's step counter, which nothing here reads.
    missing = [n for n in own if n not in given and not n.endswith("num_batches_tracked")]
    left_over = [name for name in given if name not in own]
    reshaped = [n for n in own if n in given and given[n].shape != own[n].shape]
    problems = {"lack": missing, "have unknown": left_over, "have another shape of": reshaped}
    for problem, names in problems.items():
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise SettingError(
                f"backbone.weights: they do not fit this architecture: they {problem} {min(names)}{more};"
                " check backbone.family, its name and the task's size and channels"
            )
    bad = first_not_finite(given)
    if bad:
        raise SettingError(f"backbone.weights: {bad} holds values that are no numbers; choose other weights")
    module.load_state_dict(given, strict=False)


def _in_grey(given: Tensor, own: Tensor) -> Tensor:
    """Filters [D, 3, …] summed to [D, 1, …] where the network's first layer takes one channel."""
    narrower = given.dim() == 4 == own.dim() and given.shape[1] == 3 and own.shape[1] == 1
    return given.sum(1, keepdim=True) if narrower else given


def first_not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or an infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            # NaN wins both: one pass, and no mask the size of the weights.
            low, high = torch.aminmax(tensor)
            if not (low.isfinite() and high.isfinite()):
                return name
    return None


def width_of(body: Body, what: str, batch: Batch | None = None) -> int:
    """D, by one pass of a small batch in eval mode. Raises UserError beginning with `what` when that fails.

    Without a batch it is a blank image of the body's preprocessing.
    """
    if batch is None:
        size, channels = body.preprocessing["size"], body.preprocessing["channels"]
        batch = {"pixels": torch.zeros(1, channels, *size)}
    training = body.module.training
    body.module.eval()
    try:
        with torch.no_grad():
            made = body.features(body.module, batch)
    except Exception as error:  # a foreign architecture fails in its own ways
        raise ModelError(f"{what}: {brief(error)}") from None
    finally:
        body.module.train(training)
    if made.dim() != 2:
        raise ModelError(f"{what}: it gives features of shape {list(made.shape)}, needed is one row an input")
    return int(made.shape[1])


def brief(error: Exception) -> str:
    """An error's text in one line, without what colours a terminal: it may quote a file of unknown origin."""
    text = " ".join(_COLOUR.sub("", str(error)).split())
    return "".join(letter for letter in text if letter.isprintable())[:300] or type(error).__name__


def require_pixels(family: str, input_spec: dict[str, Any], channels: tuple[int, ...]) -> None:
    """Raises UserError when the task gives no images, or images of another number of channels."""
    if input_spec["kind"] != "pixels":
        raise SettingError(
            f"backbone.family: {family} takes images; set task.kind to an image task, or another family"
        )
    if input_spec["channels"] not in (None, *channels):
        raise SettingError(
            f"task.channels: this network takes {channels[0]}, not {input_spec['channels']}; leave it out"
            " (grey images are widened)"
        )


def pixel_preprocessing(
    input_spec: dict[str, Any],
    size: Iterable[int],
    channels: int,
    mean: Iterable[float],
    std: Iterable[float],
) -> dict[str, Any]:
    """What the task must feed. The task's size and channels win; one channel has the mean of three."""
    channels = input_spec["channels"] or channels
    scales = [[float(value) for value in values] for values in (mean, std)]
    fitted = [v if len(v) == channels else [round(sum(v) / len(v), 6)] * channels for v in scales]
    height, width = input_spec["size"] or size
    shape = {"size": [int(height), int(width)], "channels": channels}
    return {"kind": "pixels", **shape, "mean": fitted[0], "std": fitted[1]}
