"""timm's image models by name (`vit_small_patch16_224`, `convnext_tiny`, …); needs the extra `timm`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retrainer.errors import SettingError, nearest
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._network import Batch, Body

SHAPED_BY_WEIGHTS = False
IMPORTED = ("timm",)


class Options(Section):
    """Further keys of `backbone:` for this family."""

    name: str = Field("resnet18", description="timm's name of the architecture, a tag of weights may follow")
    stem: Literal["own", "small"] = Field(
        "own", description="small: residual networks begin with 3×3 and no pooling, for images of 32 pixels"
    )


class Config(Keys):
    name: str = Field(description="timm's name of the architecture")
    size: list[int] = Field(min_length=2, max_length=2, description="[height, width] in pixels")
    channels: int = Field(description="1 or 3")
    width: int = Field(ge=1, description="the number of features that it gives")
    stem: str = Field("own", description="small: it begins with 3×3 and no pooling")
    maps: bool = Field(False, description="it gives maps of several scales, for boxes or masks")
    finest: int = Field(8, description="with maps: the stride of the finest one")


def build(
    options: Options, input_spec: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool
) -> Body:
    """The network without its classifier; features are pooled as the architecture does.

    With one channel the first layer takes one; pretrained filters are summed over colours.
    """
    from retrainer.models._maps import maps_config, with_maps
    from retrainer.models._start import drawn_from, pixel_preprocessing, require_pixels, width_of

    require_pixels("timm", input_spec, (3, 1))
    if weights == "imagenet":
        raise SettingError(
            f"backbone.weights: imagenet for {options.name} was not fetched; give its .safetensors file"
        )
    start = None if fresh or weights is None else Path(weights)
    preprocessing = pixel_preprocessing(input_spec, **_recorded(options.name, start))
    config = {"name": options.name, "size": preprocessing["size"], "channels": preprocessing["channels"]}
    if options.stem != "own":
        config["stem"] = options.stem
    with drawn_from(seed):
        module = _module(config)
    tensors = {} if start is None else _tensors(module, start)
    maps = maps_config(input_spec) if input_spec.get("maps") else {}
    body = _body(module, config | maps | {"width": 0}, preprocessing)
    body = with_maps(body) if maps else body
    if start is not None:
        _fill(body, tensors)
    if maps:
        return body
    width = width_of(body, f"task.size: {options.name} cannot take {preprocessing['size']}")
    return _body(module, config | {"width": width}, preprocessing)


def restore(config: dict[str, Any]) -> Body:
    """The architecture that `config` names, with random values."""
    from retrainer.models._maps import with_maps

    body = _body(_module(config), config, {})
    return with_maps(body) if config.get("maps") else body


def _body(module: nn.Module, config: dict[str, Any], preprocessing: dict[str, Any]) -> Body:
    from retrainer.models._network import Body

    return Body(module, _features, int(config["width"]), config, preprocessing)


def _recorded(name: str, weights: Path | None) -> dict[str, Any]:
    """Size, channels, mean and spread: of our own model, else of timm's weights of that name."""
    from retrainer.models._start import is_ours, our_model

    timm = _timm()
    if not timm.is_model(name):
        raise SettingError(f"backbone.name: timm has no '{name}'{nearest(name, timm.list_models())}")
    if weights is not None and is_ours(weights):
        theirs = our_model(weights, "timm")
        if theirs["config"]["name"] != name:
            found = theirs["config"]["name"]
            raise SettingError(f"backbone.weights: that model is a {found}; set backbone.name: {found}")
        return {key: theirs["preprocessing"][key] for key in ("size", "channels", "mean", "std")}
    try:
        published = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise SettingError(f"backbone.name: {error}") from None
    return {"size": published.input_size[1:], "channels": 3, "mean": published.mean, "std": published.std}


def _timm() -> Any:
    try:
        import timm
    except ModuleNotFoundError:
        raise SettingError("backbone.family: timm is not installed; pip install 'retrainer[timm]'") from None
    return timm


def size_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """What `timm.create_model` is told of the images' size: most transformers fix it when they are made,
    convolutional networks refuse to be told one."""
    fixed = getattr(_timm().get_pretrained_cfg(config["name"]), "fixed_input_size", False)
    return {"img_size": tuple(config["size"])} if fixed else {}


def _module(config: dict[str, Any]) -> nn.Module:
    from retrainer.models._stem import make_small

    timm = _timm()
    name = config["name"]
    channels, extra = config["channels"], size_arguments(config)
    module: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels, **extra)
    if config.get("stem") == "small":
        make_small(module, name)
    return module


def _tensors(module: nn.Module, weights: Path) -> dict[str, Tensor]:
    """The values for `module` in our model directory, or in a file as timm or a package publishes them."""
    from retrainer.models._start import brief, is_ours, read_tensors

    if weights.suffix == ".pth":
        return _in_order(module, weights)
    tensors = read_tensors(weights)
    # Where timm takes weights in their authors' own layout, the architecture's file translates them.
    translate = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    if translate is not None and not is_ours(weights):
        try:
            tensors = dict(translate(tensors, module))
        except Exception as error:
            reason = brief(error)
            raise SettingError(
                f"backbone.weights: {weights.name} is of another architecture: {reason}"
            ) from None
    return tensors


def _in_order(module: nn.Module, weights: Path) -> dict[str, Tensor]:
    """A package's file, whose names are another port's: its tensors in our names, by their order.

    The file's hash has been checked, and no code in it is run.
    """
    import torch

    given = list(torch.load(weights, map_location="cpu", weights_only=True).values())
    names = list(module.state_dict())
    return dict(zip(names, given, strict=False)) if len(given) >= len(names) else {}


def _fill(body: Body, tensors: dict[str, Tensor]) -> None:
    from retrainer.models._start import fill
    from retrainer.models._stem import require_same_stem

    require_same_stem(body.module, tensors)
    head = getattr(body.module, "pretrained_cfg", {}).get("classifier") or ()
    fill(body.module, tensors, spare=[*([head] if isinstance(head, str) else head), *body.cut])


def _features(module: nn.Module, batch: Batch) -> Tensor:
    return module(batch["pixels"])
