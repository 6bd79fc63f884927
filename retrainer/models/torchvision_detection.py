"""torchvision's detectors by name (`fcos_resnet50_fpn`, `ssdlite320_mobilenet_v3_large`, …), for the task
object_detection: whole networks, with their own heads, losses and ways to choose among boxes.

Legend: B images, M objects (padded), A boxes of an image, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._network import Batch, Body

SHAPED_BY_WEIGHTS = False
IMPORTED = ("torchvision.models.detection",)
Name = Literal[
    "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
]
# Their class 0 is the background.
_WITH_BACKGROUND = ("ssd", "fasterrcnn")
# What each was published with; the transform that would say so is taken out.
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
_HALF = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])


class Options(Section):
    """Further keys of `backbone:` for this family."""

    name: Name = Field("ssdlite320_mobilenet_v3_large", description="torchvision's name of the detector")


class Config(Keys):
    name: str = Field(description="torchvision's name of the detector")
    classes: int = Field(ge=1, description="the number of labels")


def build(
    options: Options, input_spec: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool
) -> Body:
    """The detector for the classes of `input_spec`. From weights of another number of classes it takes all
    but the layers that name them.
    """
    from retrainer.models._start import drawn_from, fill, pixel_preprocessing, read_tensors, require_pixels

    require_pixels("torchvision_detection", input_spec, (3,))
    if not input_spec.get("classes"):
        raise SettingError(
            "backbone.family: torchvision_detection finds boxes: set task.kind: object_detection"
        )
    if weights == "imagenet":
        raise SettingError("backbone.weights: give the path of a detector's .safetensors file, or none")
    config = {"name": options.name, "classes": input_spec["classes"]}
    with drawn_from(seed):
        body = restore(config)
    mean, std = _HALF if options.name.startswith("ssdlite") else _IMAGENET
    body.preprocessing = pixel_preprocessing(input_spec, (320, 320), 3, mean, std)
    if weights is not None and not fresh:
        fill(body.module, _of_as_many_classes(body.module, read_tensors(Path(weights))))
    return body


def restore(config: dict[str, Any]) -> Body:
    """The architecture that `config` describes, with random values."""
    from torchvision.models import get_model

    from retrainer.models._detectors import AsTheyAre
    from retrainer.models._network import Body

    name = config["name"]
    first = int(name.startswith(_WITH_BACKGROUND))
    module = get_model(name, weights=None, weights_backbone=None, num_classes=config["classes"] + first)
    module.transform = AsTheyAre()
    return Body(module, _outputs_from(first, config["classes"]), 0, config, preprocessing={})


def _outputs_from(first: int, classes: int) -> Any:
    def outputs(module: nn.Module, batch: Batch) -> Any:
        from retrainer.models._detectors import TorchvisionOutputs

        return TorchvisionOutputs(module, batch["pixels"], first, classes)

    return outputs


def _of_as_many_classes(module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The given values, and the module's own where only the number of outputs differs."""
    own = module.state_dict()
    return {
        name: own[name]
        if name in own and own[name].shape != value.shape and own[name].shape[1:] == value.shape[1:]
        else value
        for name, value in given.items()
    }
