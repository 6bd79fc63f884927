"""A convolutional network for small images that learns fast from scratch (Jordan 2024, arXiv:2404.00498)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._network import Batch, Body

SHAPED_BY_WEIGHTS = False
_GROUPS = 3
# Three poolings must leave a pixel behind the first layer, which takes one off.
_SMALLEST_SIDE = 2**_GROUPS + 1


class Options(Section):
    """Further keys of `backbone:` for this family."""

    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (64, 256, 256), min_length=_GROUPS, max_length=_GROUPS, description="channels of each group of layers"
    )
    depth: Literal[2, 3] = Field(
        2, description="convolutions of a group; of three, the last two have a shortcut around them"
    )
    views: Literal[1, 2, 6] = Field(
        1,
        description="of an image in evaluation and serving, whose features are averaged: 2: also mirrored, 6:"
        " and both shifted by a pixel to either corner; so many times the work there, none in training",
    )
    mean: float = Field(0.47, description="of a pixel's value from 0 to 1")
    std: float = Field(0.25, gt=0, description="of a pixel's value from 0 to 1")


class Config(Keys):
    channels: int = Field(description="1 or 3")
    widths: list[int] = Field(min_length=1, description="channels of each group of layers")
    depth: int = Field(ge=1, description="convolutions of a group")
    views: int = Field(ge=1, description="1, 2 or 6: of an image, averaged when it is judged")


def build(
    options: Options, input_spec: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool
) -> Body:
    """The network with random values, its first filters to be set by `begin`, or with a model's of ours."""
    from retrainer.models._start import drawn_from, pixel_preprocessing, require_pixels

    require_pixels("whitened_conv", input_spec, (3, 1))
    size = input_spec["size"]
    if not size or min(size) < _SMALLEST_SIDE:
        raise SettingError(
            f"task.size: whitened_conv takes images of one size, {_SMALLEST_SIDE} pixels or more a side; set"
            " it, as in task.size: 32"
        )
    channels = input_spec["channels"] or 3
    config = {
        "channels": channels,
        "widths": list(options.widths),
        "depth": options.depth,
        "views": options.views,
    }
    with drawn_from(seed):
        body = restore(config)
    body.preprocessing = pixel_preprocessing(
        input_spec, size, channels, [options.mean] * channels, [options.std] * channels
    )
    if not fresh and weights is not None:
        _load(body, weights)
    return body


def _load(body: Body, weights: Path | str) -> None:
    from retrainer.models._start import fill, is_ours, our_model, read_tensors, require_file

    weights = require_file(weights, "whitened_conv")
    if is_ours(weights):
        theirs = our_model(weights, "whitened_conv")["config"]
        differ = [name for name in ("channels", "widths", "depth") if theirs[name] != body.config[name]]
        if differ:
            name = differ[0]
            raise SettingError(
                f"backbone.weights: that model has {name} {theirs[name]}, here they are {body.config[name]}"
            )
    fill(body.module, read_tensors(weights))


def restore(config: dict[str, Any]) -> Body:
    """The network that `config` describes, with random values."""
    from retrainer.models._network import Body
    from retrainer.models._whitened_conv import WhitenedConv

    module = WhitenedConv(config["channels"], config["widths"], config["depth"], config["views"])
    return Body(module, _features, config["widths"][-1], config, preprocessing={}, begin=_begin)


def _features(module: nn.Module, batch: Batch) -> Tensor:
    return module(batch["pixels"])


def _begin(module: nn.Module, batch: Batch) -> None:
    module.whiten(batch["pixels"])
