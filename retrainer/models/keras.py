"""Keras 3 networks on torch: keras.applications, layers, or a `.keras` file; needs the extra `keras`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._keras_network import Network
    from retrainer.models._network import Batch, Body

# The architecture may be that of a .keras file, which `backbone.weights` names.
SHAPED_BY_WEIGHTS = True
# Keras itself is not among them: it has to be told its backend as it is imported.
IMPORTED = ("torch._dynamo", "h5py")


class Scaling(Section):
    """Keys of every Keras network, a plug-in's too."""

    mean: float | None = Field(None, description="of a pixel's value from 0 to 1; left out: 0")
    std: float | None = Field(
        None,
        gt=0,
        description="of a pixel's value from 0 to 1; left out: 1, or 1/255 (which gives values from 0 to 255)"
        " where the network begins with Rescaling or Normalization",
    )


class Options(Scaling):
    """Further keys of `backbone:` for this family; without `name` and `layers` weights tell the network."""

    name: str = Field("", description="an architecture of keras.applications, such as MobileNetV3Small")
    layers: tuple[str | dict[str, dict[str, Any]], ...] = Field(
        (),
        description="of a Sequential, each by its name in keras.layers: `Flatten`, or with its arguments,"
        " `Dense: {units: 64, activation: relu}`",
    )


class Config(Keys):
    network: dict[str, Any] = Field(
        description="the architecture, as keras.saving.serialize_keras_object writes it"
    )
    width: int = Field(ge=1, description="the number of features that it gives")


def build(
    options: Options, input_spec: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool
) -> Body:
    """The network that the settings or the weights describe, without its head: the task brings its own."""
    from retrainer.models._keras_network import application, sequential

    if options.name and options.layers:
        raise SettingError("backbone.name: backbone.layers is another network; leave one of them out")
    network: Network | None = application if options.name else sequential if options.layers else None
    return _build(network, options, input_spec, weights, seed, fresh)


def from_function(network: Network) -> Callable[..., Body]:
    """`build` of a plug-in: the function makes a network of (height, width, channels) and its options."""

    def build(
        options: Any, input_spec: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool
    ) -> Body:
        return _build(network, options, input_spec, weights, seed, fresh)

    return build


def restore(config: dict[str, Any]) -> Body:
    """The architecture that `config` describes, with random values."""
    return _body(config, {}, 0)


def _build(
    network: Network | None,
    options: Scaling,
    input_spec: dict[str, Any],
    weights: Path | str | None,
    seed: int,
    fresh: bool,
) -> Body:
    from retrainer.models._keras_network import Request, described, require_same
    from retrainer.models._start import fill, require_file, require_pixels, width_of

    require_pixels("keras", input_spec, (3, 1))
    if input_spec.get("maps"):
        raise SettingError("backbone.family: keras gives no maps for boxes or masks; set timm or torchvision")
    start = None if weights is None else require_file(weights, "keras")
    made = described(Request(network, options, input_spec, start, seed, fresh))
    body = _body({"network": made.network, "width": 0}, made.preprocessing, seed)
    drawn_by_its_code = network is not None and (fresh or start is None)
    if drawn_by_its_code:
        require_same(body.module, made.values)
    if drawn_by_its_code or not fresh:
        fill(body.module, made.values)
    body.width = width_of(body, f"task.size: the network cannot take {made.preprocessing['size']}")
    body.config["width"] = body.width
    return body


def _body(config: dict[str, Any], preprocessing: dict[str, Any], seed: int) -> Body:
    from retrainer.models._keras import built_alike
    from retrainer.models._keras_config import from_config
    from retrainer.models._keras_module import KerasModule
    from retrainer.models._network import Body

    with built_alike(seed) as keras:
        module = KerasModule(from_config(keras, config["network"]))
    return Body(module, _features, int(config["width"]), config, preprocessing, blocks=_blocks, opaque=True)


def _blocks(module: nn.Module) -> list[str]:
    found: list[str] = module.blocks()
    return found


def _features(module: nn.Module, batch: Batch) -> Tensor:
    made: Tensor = module(batch["pixels"])
    return made
