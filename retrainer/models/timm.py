"""timm's image models by name (`vit_small_patch16_224`, `convnext_tiny`, …); needs the extra `timm`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.errors import UserError, nearest
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._network import Batch, Body

SHAPED_BY_WEIGHTS = False


class Options(Section):
    """Further keys of `backbone:` for this family."""

    name: str = Field("resnet18", description="timm's name of the architecture, with or without a tag of weights")


def build(options: Options, wanted: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool) -> Body:
    """The network without its classifier; features are pooled as the architecture does."""
    from retrainer.models._start import drawn_from, fill, is_ours, our_config, read_tensors

    if wanted["kind"] != "pixels":
        raise UserError("backbone.family: timm takes images; choose an image task or another family")
    channels = wanted["channels"] or 3
    config = {"name": options.name, "channels": channels, "size": wanted["size"]}
    with drawn_from(seed):
        body = _body(config, pretrained=weights == "imagenet" and not fresh)
    published = body.module.pretrained_cfg  # mean, std and size that the weights were made with
    body.preprocessing = {
        "kind": "pixels",
        "size": list(wanted["size"] or published["input_size"][1:]),
        "channels": channels,
        "mean": list(published["mean"])[:channels],
        "std": list(published["std"])[:channels],
    }
    if isinstance(weights, Path) and not fresh:
        if is_ours(weights) and our_config(weights, "timm")["name"] != options.name:
            theirs = our_config(weights, "timm")["name"]
            raise UserError(f"backbone.weights: that model is a {theirs}; set backbone.name: {theirs}")
        head = published.get("classifier") or ()
        fill(body.module, read_tensors(weights), spare=[head] if isinstance(head, str) else head)
    return body


def restore(config: dict[str, Any]) -> Body:
    """The architecture that `config` names, with random values."""
    return _body(config, pretrained=False)


def _body(config: dict[str, Any], pretrained: bool) -> Body:
    try:
        import timm
    except ModuleNotFoundError:
        raise UserError("backbone.family: timm is not installed; pip install 'retrainer[timm]'") from None
    from retrainer.models._network import Body

    name, size = config["name"], config["size"]
    if not timm.is_model(name):
        raise UserError(f"backbone.name: timm has no '{name}'{nearest(name, timm.list_models())}")
    common: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0, "in_chans": config["channels"]}
    try:
        # Transformers fix their size when they are made; convolutional networks refuse to be told one.
        module = timm.create_model(name, **common, **({"img_size": size} if size else {}))
    except TypeError:
        module = timm.create_model(name, **common)
    except OSError as error:
        raise UserError(
            f"backbone.weights: imagenet weights of {name} cannot be downloaded ({error}); put a .safetensors file"
            " of them here and give its path, or use models:/NAME@ALIAS"
        ) from None
    return Body(module, _features, int(module.num_features), config, preprocessing={})


def _features(module: nn.Module, batch: Batch) -> Tensor:
    return module(batch["pixels"])  # type: ignore[no-any-return]
