"""torchvision's image classifiers by name (`resnet18`, `vit_b_16`, …), without their last layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retrainer.errors import ModelError, SettingError, nearest
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._network import Batch, Body

SHAPED_BY_WEIGHTS = False
IMPORTED = ("torchvision.models",)
# Parts of published weights that only their training needed.
_AUXILIARY = ("AuxLogits", "aux1", "aux2")


class Options(Section):
    """Further keys of `backbone:` for this family."""

    name: str = Field("resnet18", description="torchvision's name of the architecture")
    stem: Literal["own", "small"] = Field(
        "own", description="small: residual networks begin with 3×3 and no pooling, for images of 32 pixels"
    )


class Config(Keys):
    name: str = Field(description="torchvision's name of the architecture, whose last layer is taken off")
    size: list[int] = Field(min_length=2, max_length=2, description="[height, width] in pixels")
    channels: int = Field(description="1 or 3")
    stem: str = Field("own", description="small: it begins with 3×3 and no pooling")
    maps: bool = Field(False, description="it gives maps of several scales, for boxes or masks")
    finest: int = Field(8, description="with maps: the stride of the finest one")
    width: int = Field(0, description="with maps: the channels of the last one")


def build(
    options: Options, input_spec: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool
) -> Body:
    """The network up to its classifier; features are what the classifier would see.

    With one channel the first layer takes one; pretrained filters are summed over colours.
    """
    from retrainer.models._maps import maps_config, with_maps
    from retrainer.models._start import (
        drawn_from,
        fill,
        pixel_preprocessing,
        read_tensors,
        require_pixels,
        width_of,
    )
    from retrainer.models._stem import require_same_stem

    require_pixels("torchvision", input_spec, (3, 1))
    start = None if fresh else weights
    preprocessing = pixel_preprocessing(input_spec, **_recorded(options.name, start))
    config = {"name": options.name, "size": preprocessing["size"], "channels": preprocessing["channels"]}
    if options.stem != "own":
        config["stem"] = options.stem
    with drawn_from(seed):
        body, classifier = _headless(config)
    body.preprocessing = preprocessing
    if input_spec.get("maps"):
        body.config = config | maps_config(input_spec)
        body = with_maps(body)
    if start is not None:
        tensors = _download(options.name) if start == "imagenet" else read_tensors(Path(start))
        require_same_stem(body.module, tensors)
        fill(body.module, tensors, spare=(classifier, *_AUXILIARY, *body.cut))
    if not input_spec.get("maps"):
        width_of(body, f"task.size: {options.name} cannot take {preprocessing['size']}")
    return body


def restore(config: dict[str, Any]) -> Body:
    """The architecture that `config` names, with random values and no last layer."""
    from retrainer.models._maps import with_maps

    body = _headless(config)[0]
    return with_maps(body) if config.get("maps") else body


def _recorded(name: str, weights: Path | str | None) -> dict[str, Any]:
    """Size, channels, mean and spread: of our own model, else of the published weights of that name."""
    from torchvision import models

    from retrainer.models._start import is_ours, our_model

    _require_known(name)
    if weights is not None and weights != "imagenet" and is_ours(Path(weights)):
        theirs = our_model(Path(weights), "torchvision")
        if theirs["config"]["name"] != name:
            found = theirs["config"]["name"]
            raise SettingError(f"backbone.weights: that model is a {found}; set backbone.name: {found}")
        return {key: theirs["preprocessing"][key] for key in ("size", "channels", "mean", "std")}
    published = models.get_model_weights(name).DEFAULT.transforms()
    side = published.crop_size[0]
    return {"size": (side, side), "channels": 3, "mean": published.mean, "std": published.std}


def _require_known(name: str) -> None:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise SettingError(f"backbone.name: torchvision has no '{name}'{nearest(name, known)}")


def _headless(config: dict[str, Any]) -> tuple[Body, str]:
    """The network with random values and no last layer, and that layer's name."""
    from torch import nn
    from torchvision import models

    from retrainer.models._network import Body
    from retrainer.models._stem import make_small

    name = config["name"]
    _require_known(name)
    extra: dict[str, Any] = {"image_size": config["size"][0]} if name.startswith("vit_") else {}
    if name in ("googlenet", "inception_v3"):
        # As the published weights want it: they expect another mean than the other networks.
        extra = {"aux_logits": False, "init_weights": True, "transform_input": config["channels"] == 3}
    module = models.get_model(name, weights=None, **extra)
    layers = [(p, part) for p, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    path, last = layers[-1]
    width = last.in_features if isinstance(last, nn.Linear) else last.in_channels
    module.set_submodule(path, nn.Identity())
    if config.get("stem") == "small":
        make_small(module, name)
        layers = [(p, part) for p, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    if config["channels"] == 1:
        _take_grey(module, layers)
    return Body(module, _features, int(width), config, preprocessing={}), path


def _take_grey(module: nn.Module, layers: list[tuple[str, Any]]) -> None:
    """Gives the first convolution one input channel."""
    from torch import nn

    path, first = next((path, part) for path, part in layers if isinstance(part, nn.Conv2d))
    shape = {key: getattr(first, key) for key in ("kernel_size", "stride", "padding", "dilation")}
    module.set_submodule(path, nn.Conv2d(1, first.out_channels, bias=first.bias is not None, **shape))


def _download(name: str) -> dict[str, Tensor]:
    """torchvision's published ImageNet values, checked against the hash in their file's name."""
    from torchvision import models

    entry = models.get_model_weights(name).DEFAULT
    try:
        return read_published(entry.url)
    except (OSError, RuntimeError) as error:
        raise SettingError(
            f"backbone.weights: imagenet weights of {name} cannot be had ({error}); give the path of a"
            " .safetensors file of them, or use models:/NAME@ALIAS"
        ) from None


def read_published(url: str) -> dict[str, Tensor]:
    """The state dict at `url`, from torch.hub's cache if it is there, else downloaded into it.

    The file's name ends in the first digits of its sha256. Raises UserError when the file is another, OSError
    or RuntimeError when it cannot be had. No code in the file is run.
    """
    import torch

    from retrainer.formats.files import sha256_file

    state = torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    # torch.hub checks what it downloads, not what it finds.
    if not sha256_file(file).startswith(file.stem.rpartition("-")[2]):
        raise ModelError(f"{file} is not the published file: its sha256 is not what its name says; delete it")
    return dict(state)


def _features(module: nn.Module, batch: Batch) -> Tensor:
    return module(batch["pixels"])
