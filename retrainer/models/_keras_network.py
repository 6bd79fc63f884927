"""Where a Keras network comes from: keras.applications, layers, a function, a file, a model of ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from retrainer.errors import ModelError, SettingError, nearest
from retrainer.formats.model_files import read_model
from retrainer.models._keras import built_alike, on_torch
from retrainer.models._keras_archive import SUFFIX, read_archive
from retrainer.models._keras_config import begins_with_scaling, body_of, layer_class, to_config
from retrainer.models._keras_module import KerasModule
from retrainer.models._start import brief, is_ours, pixel_preprocessing, read_tensors

Shape = tuple[int, int, int]  # height, width, channels
Network = Callable[[Shape, Any], Any]  # (shape, options) → a Keras model


@dataclass(frozen=True)
class Request:
    """`network`: what the settings describe, None where `start` does. `options`: with `mean` and `std`.
    `input_spec`: of pixels. `start`: the weights' file or directory. `fresh`: random values are wanted, and
    `start` tells the architecture alone, where the settings do not."""

    network: Network | None
    options: Any
    input_spec: dict[str, Any]
    start: Path | None
    seed: int
    fresh: bool


@dataclass(frozen=True)
class Described:
    """`network`: its JSON. `values`: by the names that `KerasModule` gives them."""

    network: dict[str, Any]
    preprocessing: dict[str, Any]
    values: dict[str, Tensor]


def described(request: Request) -> Described:
    """The network, how it is fed, and the values of `start`, or those that its own code drew.

    Raises SettingError where settings and weights name none, or two, or the images do not fit.
    """
    start = request.start
    if request.network is not None:
        if start is not None and start.suffix == SUFFIX:
            raise SettingError(
                f"backbone.weights: a {SUFFIX} file brings its own architecture; set backbone.family: keras,"
                " and leave backbone.name and backbone.layers out"
            )
        return _of_settings(request)
    if start is not None and start.suffix == SUFFIX:
        return _of_archive(request, start)
    if start is not None and is_ours(start):
        theirs = _ours(start, request.options)
        scale = {key: theirs["preprocessing"][key] for key in ("size", "channels", "mean", "std")}
        preprocessing = pixel_preprocessing(request.input_spec, **scale)
        return Described(theirs["config"]["network"], preprocessing, read_tensors(start))
    raise SettingError(
        f"backbone.name: which network? name one of keras.applications, or set backbone.layers, or a {SUFFIX}"
        " file as backbone.weights"
    )


def _of_settings(request: Request) -> Described:
    spec, start = request.input_spec, request.start
    assert request.network is not None
    if not spec["size"]:
        raise SettingError("task.size: keras takes images of one size; set it, as in task.size: 28")
    shape = (*spec["size"], spec["channels"] or 3)
    with built_alike(request.seed) as keras:
        model = body_of(keras, request.network(shape, request.options), shape)
        made = _described(keras, model, request, shape)
    if start is None or request.fresh:
        return made
    preprocessing = made.preprocessing
    if is_ours(start):
        theirs = _ours(start, request.options)
        preprocessing = theirs["preprocessing"]
        if theirs["config"]["network"] != made.network:
            raise SettingError(
                f"backbone.weights: {start.name} is another network than the settings describe; set what it"
                " was trained with, or leave backbone.name and backbone.layers out"
            )
    return Described(made.network, preprocessing, read_tensors(start))


def _of_archive(request: Request, start: Path) -> Described:
    with built_alike(request.seed) as keras:
        model = body_of(keras, read_archive(keras, start), ())
        what = f"backbone.weights: {start.name}"
        shape = _shape_of(model.input_shape[1:], request.input_spec, what)
        return _described(keras, model, request, shape)


def _described(keras: Any, model: Any, request: Request, shape: Shape) -> Described:
    options, (*size, channels) = request.options, shape
    std = options.std if options.std is not None else 1 / 255 if begins_with_scaling(model) else 1.0
    scales = [options.mean or 0.0] * channels, [std] * channels
    preprocessing = pixel_preprocessing(request.input_spec | {"channels": channels}, size, channels, *scales)
    return Described(to_config(keras, model), preprocessing, KerasModule(model).state_dict())


def _ours(start: Path, options: Any) -> dict[str, Any]:
    """The description of a model of ours. Raises SettingError where its network is none of Keras', or the
    settings ask for another scale of pixels than it was trained on."""
    description = read_model(start)
    if "network" not in description["config"]:
        raise SettingError(
            f"backbone.weights: {start.name} is of family {description['family']!r}; set backbone.family to"
            " it or choose weights of a Keras network"
        )
    for key in ("mean", "std"):
        asked, theirs = getattr(options, key), description["preprocessing"][key]
        if asked is not None and not all(math.isclose(asked, own, rel_tol=1e-3) for own in theirs):
            raise SettingError(
                f"backbone.{key}: {start.name} was trained with {theirs[0]:g}; set that, or leave it out"
            )
    return description


def _shape_of(read: tuple[int | None, ...], input_spec: dict[str, Any], what: str) -> Shape:
    """The images for a network that reads arrays of the shape `read`, whose sides may be open."""
    size: tuple[Any, Any] = input_spec["size"] or (None, None)
    channels = input_spec["channels"]
    if len(read) == 3:
        size, channels = (read[0] or size[0], read[1] or size[1]), read[2]
    if None in size:
        raise SettingError(
            f"task.size: {what} takes images of more than one size; set it, as in task.size: 28"
        )
    shape = int(size[0]), int(size[1]), int(channels or (3 if len(read) == 3 else 1))
    fits = len(read) == 3 or math.prod(side or 0 for side in read) == math.prod(shape)
    if not fits or shape[2] not in (1, 3):
        raise SettingError(f"task.size: {what} reads {list(read)}, and images are {list(shape)}; set others")
    asked = {"size": input_spec["size"], "channels": input_spec["channels"]}
    for key, own in (("size", [*shape[:2]]), ("channels", shape[2])):
        if asked[key] and asked[key] != own:
            raise SettingError(f"task.{key}: {what} takes {own}; set that, or leave it out")
    return shape


def require_same(module: nn.Module, values: dict[str, Tensor]) -> None:
    """Raises SettingError unless the module, made from JSON, has just these values."""
    if {n: t.shape for n, t in module.state_dict().items()} != {n: t.shape for n, t in values.items()}:
        raise SettingError(
            "backbone.family: made again from its get_config, the network has other weights; let get_config"
            " of its own layers return every argument that they are made with"
        )


def application(shape: Shape, options: Any) -> Any:
    """One of keras.applications, which downloads nothing unless it is asked for weights."""
    every = on_torch().applications
    known = sorted(name for name, made in vars(every).items() if name[0].isupper() and callable(made))
    if options.name not in known:
        raise SettingError(
            f"backbone.name: keras.applications has no {options.name!r}{nearest(options.name, known)}"
        )
    try:
        return getattr(every, options.name)(include_top=False, weights=None, input_shape=shape, pooling="avg")
    except ValueError as error:
        what = f"backbone.name: {options.name} cannot be built for images of {list(shape)}"
        raise ModelError(f"{what}: {brief(error)}") from None


def sequential(shape: Shape, options: Any) -> Any:
    """The layers that the settings name, one behind the other."""
    keras = on_torch()
    model = keras.Sequential([keras.Input(shape)])
    for number, entry in enumerate(options.layers):
        where = f"backbone.layers.{number}"
        if not isinstance(entry, str) and len(entry) != 1:
            raise SettingError(f"{where}: an entry is one layer, as Dense: {{units: 64}} (got {entry!r})")
        name, arguments = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
        kind = layer_class(keras, name, where)
        try:
            model.add(kind(**arguments))
        except (TypeError, ValueError) as error:
            raise SettingError(f"{where}: {name}: {brief(error)}") from None
    return model
