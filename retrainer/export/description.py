"""What an export says of a model: how inputs are read, what its outputs mean; and which models have none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrainer.errors import ModelError, SettingError, nearest
from retrainer.formats.images import IMAGE_FORMATS
from retrainer.tasks._classes import Classification
from retrainer.tasks._numbers import Regression

if TYPE_CHECKING:
    from retrainer.batch_prediction.model import LoadedModel

# Each with the families that it takes; None: all.
FORMATS: Mapping[str, tuple[str, ...] | None] = {
    "onnx": None,
    "onnx-int8": None,
    "transformers": ("transformers",),
    "timm": ("timm",),
    "torchvision": ("torchvision",),
    "keras": None,  # also plug-ins' networks, where they are Keras'
}
INPUT_NAMES = {"tokens": ("input_ids", "attention_mask", "token_type_ids"), "pixels": ("pixels",)}


@dataclass(frozen=True)
class Exported:
    """A loaded model and what `model.json` says of its family and task."""

    model: LoadedModel
    family: str
    task_kind: str

    @property
    def preprocessing(self) -> dict[str, Any]:
        found: dict[str, Any] = self.model.predictor.network.description.preprocessing
        return found

    @property
    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = self.model.predictor.network.description.config
        return found

    @property
    def is_keras(self) -> bool:
        network = self.config.get("network")
        return isinstance(network, dict) and str(network.get("module")).startswith("keras")

    @property
    def is_number(self) -> bool:
        return isinstance(self.model.predictor.task, Regression)

    @property
    def has_several(self) -> bool:
        """Whether a row may have several classes."""
        task = self.model.predictor.task
        return isinstance(task, Classification) and task.multi_label

    @property
    def outputs(self) -> int:
        return 1 if self.is_number else len(self.model.predictor.labels)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the network's inputs."""
        names = INPUT_NAMES[self.preprocessing["kind"]]
        return names if self.preprocessing.get("pairs", True) else names[:2]


def require_format(name: str) -> None:
    """Raises SettingError for no format."""
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise SettingError(f"FORMAT={name}: not a format{nearest(name, list(FORMATS))}; one of {known}")


def require_exportable(exported: Exported, form: str) -> None:
    """Raises ModelError for a model that cannot be exported in the format `form`, and names what can be."""
    task, kind = exported.model.predictor.task, exported.preprocessing.get("kind")
    if not isinstance(task, Classification | Regression) or kind not in INPUT_NAMES:
        raise ModelError(
            f"FORMAT={form}: a model of {exported.task_kind} cannot be exported yet, only one that reads"
            " texts or images and answers with classes or a number; make predict and make serve take every"
            " model"
        )
    if getattr(getattr(task, "options", None), "mask_personal_data", False):
        raise ModelError(
            f"FORMAT={form}: task.mask_personal_data is true, and only Retrainer masks texts before the"
            " network reads them; use make predict or make serve, or train with"
            " task.mask_personal_data: false"
        )
    families = FORMATS[form]
    if families and getattr(getattr(task, "options", None), "head", "linear") == "prototypes":
        raise ModelError(
            f"FORMAT={form}: this layout ends in a linear layer, and task.head is prototypes; choose"
            " FORMAT=onnx"
        )
    reads_texts = kind == "tokens"
    if form == "keras" and not exported.is_keras:
        families = ("keras",)
    if families and (exported.family not in families or reads_texts != (form == "transformers")):
        other = exported.family if exported.family in FORMATS and not reads_texts else "onnx"
        other = "onnx" if exported.family == "transformers" else other
        raise ModelError(
            f"FORMAT={form}: this model is of family {exported.family} and reads"
            f" {'texts' if reads_texts else 'images'}; choose FORMAT={other}"
        )


def preprocessing_of(exported: Exported, form: str = "") -> dict[str, Any]:
    """`preprocessing.json`: how one row becomes the network's input. A Keras file scales pixels itself."""
    rule = exported.preprocessing
    if rule["kind"] == "tokens":
        chosen = {key: rule[key] for key in ("kind", "tokenizer", "max_length", "pad_id")}
        return chosen | {"inputs": list(exported.inputs)}
    scale = {key: rule[key] for key in ("mean", "std")}
    if form == "keras":
        scale = {"mean": [0.0] * rule["channels"], "std": [1 / 255] * rule["channels"]}
    return {
        **{key: rule[key] for key in ("kind", "size", "channels")},
        **scale,
        "inputs": list(exported.inputs),
        "formats": list(IMAGE_FORMATS),
        "upright": "turned as its EXIF note says",
        "transparent": [255, 255, 255],
        "resize": "scaled until it covers size (height, width), the centre kept: Pillow's ImageOps.fit",
        "interpolation": "bicubic",
        "values": "(value / 255 - mean) / std",
    }


def answers_of(exported: Exported) -> dict[str, Any]:
    """What the network's outputs mean."""
    if exported.is_number:
        return {"kind": "number", "outputs": 1}
    predictor = exported.model.predictor
    return {
        "kind": "classes",
        "outputs": exported.outputs,
        "labels": list(predictor.labels),
        "multi_label": exported.has_several,
        "temperature": predictor.temperature,
    }
