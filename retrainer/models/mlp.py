"""Fully connected networks on pixels, such as the 784-128-64-10 one: `hidden: [128, 64]`."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._network import Batch, Body

SHAPED_BY_WEIGHTS = False


class Options(Section):
    """Further keys of `backbone:` for this family."""

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (128, 64), min_length=1, description="units of each hidden layer"
    )
    mean: float = Field(0.5, description="of a pixel's value from 0 to 1")
    std: float = Field(0.5, gt=0, description="of a pixel's value from 0 to 1")


class Config(Keys):
    inputs: int = Field(ge=1, description="values of an image: channels × height × width")
    hidden: list[int] = Field(
        min_length=1, description="units of each hidden layer; `body.0`, `body.2`, … are the linear layers"
    )


def build(
    options: Options, input_spec: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool
) -> Body:
    """Linear layers and ReLU on the flattened image; the last hidden layer is the features."""
    from retrainer.models._start import drawn_from, pixel_preprocessing, require_pixels

    require_pixels("mlp", input_spec, (1, 3))
    if not input_spec["size"]:
        raise SettingError("task.size: mlp takes images of one size; set it, as in task.size: 28")
    channels = input_spec["channels"] or 1
    config = {"inputs": channels * math.prod(input_spec["size"]), "hidden": list(options.hidden)}
    with drawn_from(seed):
        body = restore(config)
    scales = [options.mean] * channels, [options.std] * channels
    body.preprocessing = pixel_preprocessing(input_spec, input_spec["size"], channels, *scales)
    if not fresh and weights is not None:
        _load(body, weights)
    return body


def _load(body: Body, weights: Path | str) -> None:
    from retrainer.models._start import fill, is_ours, our_model, read_tensors, require_file

    weights = require_file(weights, "mlp")
    if is_ours(weights):
        theirs = our_model(weights, "mlp")
        if theirs["config"] != body.config:
            found, asked = (_shape(config) for config in (theirs["config"], body.config))
            raise SettingError(
                f"backbone.weights: {weights.name} is {found}, the settings say {asked};"
                " set backbone.hidden and task.size to what it is"
            )
        body.preprocessing = {**theirs["preprocessing"]}
    fill(body.module, read_tensors(weights))


def _shape(config: dict[str, Any]) -> str:
    """784-128-64, for people."""
    return "-".join(str(width) for width in (config["inputs"], *config["hidden"]))


def restore(config: dict[str, Any]) -> Body:
    """The layers that `config` describes, with random values."""
    from torch import nn

    from retrainer.models._network import Body

    widths = [int(config["inputs"]), *(int(width) for width in config["hidden"])]
    layers = [layer for below, above in pairwise(widths) for layer in (nn.Linear(below, above), nn.ReLU())]
    return Body(nn.Sequential(*layers), _features, widths[-1], config, preprocessing={})


def _features(module: nn.Module, batch: Batch) -> Tensor:
    return module(batch["pixels"].flatten(1))
