"""torchvision's image classifiers by name (`resnet18`, `vit_b_16`, `convnext_tiny`, …), without their last layer."""

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
IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]


class Options(Section):
    """Further keys of `backbone:` for this family."""

    name: str = Field("resnet18", description="torchvision's name of the architecture")


def build(options: Options, wanted: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool) -> Body:
    """The network up to its classifier; features are what the classifier would see."""
    from retrainer.models._start import drawn_from, fill, is_ours, our_config, read_tensors

    if wanted["kind"] != "pixels":
        raise UserError("backbone.family: torchvision takes images; choose an image task or another family")
    if wanted["channels"] == 1:
        raise UserError("task.channels: torchvision's networks take 3; leave it out, grey images are widened")
    config = {"name": options.name, "size": list(wanted["size"] or (224, 224))}
    with drawn_from(seed):
        body = restore(config)
    body.preprocessing = {
        "kind": "pixels",
        "size": config["size"],
        "channels": 3,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }
    if fresh or weights is None:
        return body
    if weights == "imagenet":
        fill(body.module, _download(options.name), spare=[_last_linear(_whole(config))])
        return body
    path = Path(weights)
    if is_ours(path):
        theirs = our_config(path, "torchvision")["name"]
        if theirs != options.name:
            raise UserError(f"backbone.weights: that model is a {theirs}; set backbone.name: {theirs}")
    fill(body.module, read_tensors(path), spare=[_last_linear(_whole(config))])
    return body


def restore(config: dict[str, Any]) -> Body:
    """The architecture that `config` names, with random values and no last layer."""
    from torch import nn

    from retrainer.models._network import Body

    module = _whole(config)
    last = _last_linear(module)
    parent, _, leaf = last.rpartition(".")
    width = module.get_submodule(last).in_features
    setattr(module.get_submodule(parent), leaf, nn.Identity())
    return Body(module, _features, int(width), config, preprocessing={})


def _whole(config: dict[str, Any]) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    name = config["name"]
    if name not in known:
        raise UserError(f"backbone.name: torchvision has no '{name}'{nearest(name, known)}")
    extra: dict[str, Any] = {"image_size": config["size"][0]} if name.startswith("vit_") else {}
    if name in ("googlenet", "inception_v3"):
        extra = {"aux_logits": False, "init_weights": True}
    return models.get_model(name, weights=None, **extra)  # type: ignore[no-any-return]


def _last_linear(module: nn.Module) -> str:
    """The name of the classifier: torchvision's networks end in a linear layer."""
    from torch import nn

    names = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not names:
        raise UserError("backbone.name: this architecture does not end in a linear layer; choose another")
    return names[-1]


def _download(name: str) -> dict[str, Tensor]:
    """torchvision's published ImageNet values, checked against the hash in their file name."""
    from torchvision import models

    entry = models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    try:
        return dict(entry.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except OSError as error:
        raise UserError(
            f"backbone.weights: imagenet weights of {name} cannot be downloaded ({error}); put a .safetensors file"
            " of them here and give its path, or use models:/NAME@ALIAS"
        ) from None


def _features(module: nn.Module, batch: Batch) -> Tensor:
    return module(batch["pixels"])  # type: ignore[no-any-return]
