"""An image model under the names of timm or torchvision, whole: their body and our last layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import ModelError
from retrainer.export.description import Exported
from retrainer.export.tensors import FILE, body_tensors, last_layer, save_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn


def write_vision(exported: Exported, form: str, folder: Path) -> dict[str, Any]:
    """Writes `model.safetensors`; returns what loads it. Raises ModelError for a network that the library
    does not know by name."""
    if exported.config.get("stem", "own") != "own":
        raise ModelError(
            f"FORMAT={form}: backbone.stem: {exported.config['stem']} is no network of {form}'s; choose"
            " FORMAT=onnx"
        )
    arguments = _timm_arguments(exported) if form == "timm" else _torchvision_arguments(exported)
    name = exported.config["name"]
    save_tensors(_tensors(exported, *_library_network(form, name, arguments)), folder)
    return {"library": form, "name": name, "file": FILE, "arguments": arguments}


def _timm_arguments(exported: Exported) -> dict[str, Any]:
    """What `timm.create_model` is to be given beside the name."""
    from retrainer.models.timm import size_arguments

    config = exported.config
    return {"num_classes": exported.outputs, "in_chans": config["channels"], **size_arguments(config)}


def _torchvision_arguments(exported: Exported) -> dict[str, Any]:
    """What `torchvision.models.get_model` is to be given beside the name."""
    config = exported.config
    if config["channels"] != 3:
        raise ModelError(
            "FORMAT=torchvision: this model reads grey images, and torchvision's networks read colours;"
            " choose FORMAT=onnx"
        )
    arguments: dict[str, Any] = {"weights": None, "num_classes": exported.outputs}
    if config["name"].startswith("vit_"):
        arguments["image_size"] = config["size"][0]
    if config["name"] in ("googlenet", "inception_v3"):
        arguments |= {"aux_logits": False, "init_weights": False, "transform_input": True}
    return arguments


def _library_network(form: str, name: str, arguments: dict[str, Any]) -> tuple[nn.Module, str]:
    """The library's whole network with random values, and the name of its last layer, empty where there are
    several."""
    from torch import nn

    from retrainer.models._start import unfilled

    with unfilled():
        if form == "timm":
            import timm

            model = timm.create_model(name, **arguments)
            last = model.pretrained_cfg["classifier"]
            return model, last if isinstance(last, str) else ""
        from torchvision.models import get_model

        model = get_model(name, **arguments)
    return model, [path for path, part in model.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)][
        -1
    ]


def _tensors(exported: Exported, model: nn.Module, last: str) -> dict[str, Tensor]:
    """Every tensor of the library's network, by its names. Raises ModelError where they are not the same."""
    weight, bias = last_layer(exported)
    wanted, made = model.state_dict(), body_tensors(exported)
    if f"{last}.weight" in wanted:
        made |= {f"{last}.weight": weight.reshape(wanted[f"{last}.weight"].shape), f"{last}.bias": bias}
    if {n: t.shape for n, t in made.items()} != {n: t.shape for n, t in wanted.items()}:
        raise ModelError(
            f"{exported.config['name']} has no single last layer in its library; choose FORMAT=onnx"
        )
    return made
