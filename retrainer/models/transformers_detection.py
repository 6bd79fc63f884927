"""Hugging Face detectors for the task object_detection: DETR, RT-DETR, YOLOS and others of their class.

The weights' directory tells the architecture. Only safetensors are read, and none of its code is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import nn

    from retrainer.models._network import Batch, Body

SHAPED_BY_WEIGHTS = True
IMPORTED = ("transformers.modeling_utils",)
# Whether to download a body's own weights first, which the detector's replace.
_PRETRAINED = "use_pretrained_backbone"


class Options(Section):
    """This family has no further keys of `backbone:`."""


class Config(Keys):
    model: dict[str, Any] = Field(
        description="the detector's config.json, with its model_type, without what says nothing of its shape"
    )
    classes: int = Field(ge=1, description="the number of labels")


def build(
    options: Options,  # noqa: ARG001
    input_spec: dict[str, Any],
    weights: Path | str | None,
    seed: int,
    fresh: bool,
) -> Body:
    """The detector for `input_spec["classes"]` classes; layers of another number of classes start anew."""
    from retrainer.models._pixels import recorded_pixels
    from retrainer.models._start import (
        drawn_from,
        fill,
        is_ours,
        pixel_preprocessing,
        read_tensors,
    )

    weights = _required(weights, input_spec)
    config = _config(weights, int(input_spec["classes"]))
    ours = is_ours(weights)
    with drawn_from(seed):
        body = restore(config) if fresh or ours else _pretrained(weights, config)
    recorded = recorded_pixels(weights, config["model"], "transformers_detection")
    shapes: dict[str, Any] = {
        "size": (640, 640),
        "channels": 3,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    body.preprocessing = pixel_preprocessing(input_spec, **(shapes | recorded))
    if ours and not fresh:
        own = body.module.state_dict()
        given = read_tensors(weights).items()
        fill(body.module, {n: own[n] if n in own and own[n].shape != t.shape else t for n, t in given})
    return body


def _required(weights: Path | str | None, input_spec: dict[str, Any]) -> Path:
    """The weights' directory. Raises UserError where there is none, or the task finds no boxes in images."""
    from retrainer.models._start import require_pixels

    if not isinstance(weights, Path) or not weights.is_dir():
        raise SettingError(
            "backbone.weights: the transformers_detection family reads its architecture from them; give a"
            " directory with config.json (a hub id, a local directory or models:/NAME@ALIAS)"
        )
    if not input_spec.get("classes"):
        raise SettingError(
            "backbone.family: transformers_detection finds boxes: set task.kind: object_detection"
        )
    require_pixels("transformers_detection", input_spec, (3,))
    return weights


def restore(config: dict[str, Any]) -> Body:
    """The architecture that `config` describes, with random values."""
    from transformers import AutoModelForObjectDetection

    return _body(AutoModelForObjectDetection.from_config(_described(config), trust_remote_code=False), config)


def _described(config: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    model = dict(config["model"])
    return AutoConfig.for_model(model.pop("model_type"), **model, num_labels=config["classes"])


def _pretrained(weights: Path, config: dict[str, Any]) -> Body:
    """A directory in Hugging Face layout. Raises UserError when parts of the detector are not in it."""
    from transformers import AutoModelForObjectDetection

    from retrainer.models._hugging_face import load_pretrained, require_all

    described = _described(config)
    module, lacking = load_pretrained(
        AutoModelForObjectDetection, weights, config=described, ignore_mismatched_sizes=True
    )
    require_all(weights, lacking)
    return _body(module, config)


def _body(module: nn.Module, config: dict[str, Any]) -> Body:
    from retrainer.models._network import Body

    return Body(module, _outputs_from(config["classes"]), 0, config, preprocessing={})


def _config(weights: Path, classes: int) -> dict[str, Any]:
    """Our description of the weights' directory, be it our own or in Hugging Face layout."""
    from retrainer.models._hugging_face import shaped
    from retrainer.models._start import is_ours, our_model
    from retrainer.models._text import read_json

    if is_ours(weights):
        return our_model(weights, "transformers_detection")["config"] | {"classes": classes}
    model = read_json(weights / "config.json")
    if not model.get("model_type"):
        raise SettingError(
            f"backbone.weights: {weights.name}/config.json names no model_type; choose a detector"
        )
    model = {key: value for key, value in shaped(model).items() if key != "num_labels"}
    shape = model | ({_PRETRAINED: False} if _PRETRAINED in model else {})
    return {"model": shape, "classes": classes}


def _outputs_from(classes: int) -> Any:
    def outputs(module: nn.Module, batch: Batch) -> Any:
        from retrainer.models._detectors import TransformersOutputs

        return TransformersOutputs(module, batch["pixels"], classes)

    return outputs
