"""A text model in the layout that `AutoModelForSequenceClassification.from_pretrained(folder)` opens.

The library's own classifiers put a layer with tanh between the first token and the outputs, ours is linear.
tanh of a small enough number is that number: that layer becomes the identity divided by a power of two, and
the outputs' weights are multiplied by it. For the mean of all tokens the library's BERT-like classifiers have
no place, so such a folder carries its classifier as code, for which the caller says `trust_remote_code=True`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import ModelError
from retrainer.export.description import Exported
from retrainer.export.tensors import body_tensors, last_layer, save_tensors
from retrainer.formats.files import write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

CODE = Path(__file__).with_name("pooled_classifier.py")
# 2^-14: of values up to 5, tanh is the identity in float32; of 16 it is off by 3e-7 of the value.
_SMALL = 2.0**-14
# Of classifiers with such a layer: its name, the outputs' name.
_DENSE_AND_OUTPUT = {
    "bert": ("bert.pooler.dense", "classifier"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
    "xlm-roberta": ("classifier.dense", "classifier.out_proj"),
    "camembert": ("classifier.dense", "classifier.out_proj"),
}


def write_transformers(exported: Exported, folder: Path) -> dict[str, Any]:
    """Writes config, weights, tokenizer and where needed code; returns what loads it."""
    config = _config(exported)
    kind, pooling = exported.config["model"]["model_type"], exported.config["pooling"]
    plain = pooling == "cls" and kind in _DENSE_AND_OUTPUT
    if plain:
        tensors, config["architectures"] = _library_names(exported, kind)
    else:
        tensors = _own_names(exported)
        shutil.copyfile(CODE, folder / CODE.name)
        config = _with_code(config, pooling)
    write_json(folder / "config.json", config)
    save_tensors(tensors, folder)
    _write_tokenizer(exported, folder)
    return {"library": "transformers", "arguments": {} if plain else {"trust_remote_code": True}}


def _config(exported: Exported) -> dict[str, Any]:
    names = ["prediction"] if exported.is_number else list(exported.model.predictor.labels)
    problem = "multi_label_classification" if exported.has_several else "single_label_classification"
    return {
        **exported.config["model"],
        "id2label": {str(n): name for n, name in enumerate(names)},
        "label2id": {name: n for n, name in enumerate(names)},
        "problem_type": "regression" if exported.is_number else problem,
        "dtype": "float32",
    }


def _library_names(exported: Exported, kind: str) -> tuple[dict[str, Tensor], list[str]]:
    """By the names of the library's own classifier of this architecture, and the classifier's name."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from retrainer.models._hugging_face import empty_model
    from retrainer.models._start import unfilled

    dense, output = _DENSE_AND_OUTPUT[kind]
    with unfilled():
        model = empty_model(
            AutoModelForSequenceClassification, exported.config["model"] | {"num_labels": exported.outputs}
        )
    weight, bias = last_layer(exported)
    width = weight.shape[1]
    own = body_tensors(exported)
    made = {f"{model.base_model_prefix}.{name}": value for name, value in own.items()}
    made |= {f"{dense}.weight": torch.eye(width) * _SMALL, f"{dense}.bias": torch.zeros(width)}
    made |= {f"{output}.weight": weight / _SMALL, f"{output}.bias": bias}
    _require_all(model, made, kind)
    return made, [type(model).__name__]


def _require_all(model: nn.Module, made: dict[str, Tensor], kind: str) -> None:
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if shapes != {name: value.shape for name, value in made.items()}:
        raise ModelError(
            f"FORMAT=transformers: this {kind} has other layers than the library's; choose FORMAT=onnx"
        )


def _own_names(exported: Exported) -> dict[str, Tensor]:
    """By the names of `pooled_classifier.py`."""
    weight, bias = last_layer(exported)
    own = body_tensors(exported)
    encoder = {f"encoder.{name}": value for name, value in own.items()}
    return encoder | {"classifier.weight": weight, "classifier.bias": bias}


def _with_code(config: dict[str, Any], pooling: str) -> dict[str, Any]:
    """A type of its own: without the code, the library would take another classifier and draw its weights."""
    names = {key: config[key] for key in ("id2label", "label2id", "problem_type", "dtype")}
    module = CODE.stem
    return {
        **names,
        "model_type": "pooled-classifier",
        "architectures": ["PooledClassifier"],
        "auto_map": {
            "AutoConfig": f"{module}.PooledClassifierConfig",
            "AutoModelForSequenceClassification": f"{module}.PooledClassifier",
        },
        "pooling": pooling,
        "encoder": {key: value for key, value in config.items() if key not in names},
    }


def _write_tokenizer(exported: Exported, folder: Path) -> None:
    """`tokenizer.json` is there already; this says how the library is to use it."""
    rule = exported.preprocessing
    tokens = {token["id"]: token["content"] for token in _added(exported)}
    note: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": rule["max_length"],
        "model_input_names": list(exported.inputs),
    }
    if (padding := tokens.get(rule["pad_id"])) is not None:
        note["pad_token"] = padding
    write_json(folder / "tokenizer_config.json", note)


def _added(exported: Exported) -> list[dict[str, Any]]:
    assets = exported.model.predictor.network.description.assets
    described = json.loads(assets[exported.preprocessing["tokenizer"]])
    vocabulary = described["model"].get("vocab", {})
    known = (
        [{"id": n, "content": token} for token, n in vocabulary.items()]
        if isinstance(vocabulary, dict)
        else []
    )
    return [*known, *described.get("added_tokens", [])]
