"""Hugging Face encoders: text (BERT, MiniLM, RoBERTa, …) and images (ViT, ConvNeXt, DINO, …).

The weights' directory tells the architecture. Only safetensors are read, and none of its code is run.
Legend: B rows, T tokens (of an image: patches), D feature width.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retrainer.errors import SettingError
from retrainer.formats.keys import Keys
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._network import Batch, Body

SHAPED_BY_WEIGHTS = True
IMPORTED = ("transformers.modeling_utils",)
# Of a batch of texts; `lengths` where texts are packed (training.packing).
_READ = ("input_ids", "attention_mask", "token_type_ids", "lengths")


class Options(Section):
    """Further keys of `backbone:` for this family."""

    pooling: Literal["auto", "mean", "cls"] = Field(
        "auto", description="tokens to one vector; auto: as a sentence encoder says, else the model's own way"
    )


class Config(Keys):
    model: dict[str, Any] = Field(
        description="the encoder's config.json, with its model_type, without what says nothing of its shape"
    )
    input: Literal["tokens", "pixels"] = Field(description="what it reads")
    pooling: Literal["mean", "cls", "own", "none"] = Field(
        description="from tokens to one vector: their mean, the first one, or as the network does itself;"
        " none: a vector for each token"
    )
    pooler: bool = Field(description="whether a pooler without weights stays")
    width: int = Field(ge=1, description="the number of features that it gives")


def build(
    options: Options, input_spec: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool
) -> Body:
    """An encoder and the files that its input needs."""
    if input_spec.get("each_token") and options.pooling != "auto":
        raise SettingError("backbone.pooling: this task reads a vector for each token; leave it out")
    from retrainer.models._start import drawn_from, fill, is_ours, read_tensors, unfilled

    if not isinstance(weights, Path) or not weights.is_dir():
        raise SettingError(
            "backbone.weights: the transformers family reads its architecture from them; give a directory"
            " with config.json (a hub id, a local directory, package:NAME or models:/NAME@ALIAS)"
        )
    config = _config(weights, options, input_spec)
    if fresh:
        if input_spec.get("size") and "image_size" in config["model"]:
            config["model"]["image_size"] = input_spec["size"][0]
        with drawn_from(seed):
            body = restore(config)
    elif is_ours(weights):
        with unfilled():
            body = restore(config)
        fill(body.module, read_tensors(weights))
    else:
        body = _pretrained(weights, config)
    _prepare(body, weights, input_spec)
    if input_spec.get("each_token"):
        body.config["pooling"], body.features = "none", _every_token
    return body


def restore(config: dict[str, Any]) -> Body:
    """The architecture that `config` describes, with random values."""
    from transformers import AutoModel

    from retrainer.models._hugging_face import empty_model

    return _body(empty_model(AutoModel, config["model"]), config)


def _config(weights: Path, options: Options, input_spec: dict[str, Any]) -> dict[str, Any]:
    """Our description of the weights' directory, be it our own or in Hugging Face layout."""
    from retrainer.models._start import is_ours, our_model

    if is_ours(weights):
        config = our_model(weights, "transformers")["config"]
        if options.pooling != "auto" or config["pooling"] == "none":
            config["pooling"] = "mean" if options.pooling == "auto" else options.pooling
    else:
        config = _described(weights, options)
    if config["input"] != input_spec["kind"]:
        raise SettingError(
            f"backbone.weights: {weights.name} reads {config['input']},"
            f" but task.kind gives {input_spec['kind']};"
            " choose another task.kind or other weights"
        )
    return config


def _described(weights: Path, options: Options) -> dict[str, Any]:
    """The description of a directory in Hugging Face layout."""
    from retrainer.models._hugging_face import described, shape_of
    from retrainer.models._text import pooling_of

    found = described(weights)
    reads_pixels = hasattr(found, "num_channels")
    pooling: str = options.pooling
    if pooling == "auto":
        pooling = "own" if reads_pixels else pooling_of(weights, found.architectures or [])
    return {
        "input": "pixels" if reads_pixels else "tokens",
        "pooling": pooling,
        "pooler": reads_pixels,
        "width": 0,
        "model": shape_of(found),
    }


def _pretrained(weights: Path, config: dict[str, Any]) -> Body:
    """The encoder with the directory's values. Raises UserError when they are not all there."""
    from transformers import AutoModel

    from retrainer.models._hugging_face import load_pretrained, require_all

    module, lacking = load_pretrained(AutoModel, weights)
    if any(name.startswith("pooler.") for name in lacking):
        config["pooler"] = False  # it would be a random layer
    body = _body(module, config)
    require_all(weights, [name for name in lacking if name in body.module.state_dict()])
    return body


def _body(module: nn.Module, config: dict[str, Any]) -> Body:
    from torch import nn

    from retrainer.models._network import Body

    config_of_module: Any = module.config
    if hasattr(config_of_module, "use_cache"):  # of keys and values, which a decoder keeps to write further
        config_of_module.use_cache = False
    pooler = getattr(module, "pooler", None)
    # A dense pooler was trained for another answer, or not at all: the first token is taken instead.
    dense = pooler is not None and any(isinstance(part, nn.Linear) for part in pooler.modules())
    if pooler is not None and (dense or not config["pooler"]):
        module.pooler = None
    by_tokens = {"mean": _mean_of_tokens, "cls": _first_token, "none": _every_token}
    pooling = config["pooling"]
    features = by_tokens[pooling] if config["input"] == "tokens" else _image_features(pooling)
    return Body(module, features, int(config["width"]), config, preprocessing={})


def _prepare(body: Body, weights: Path, input_spec: dict[str, Any]) -> None:
    """Fills in preprocessing, assets and width."""
    import torch

    from retrainer.models._pixels import recorded_pixels
    from retrainer.models._start import pixel_preprocessing, require_pixels, width_of
    from retrainer.models._text import TOKENIZER, read_tokenizer, token_preprocessing

    probe = None
    if input_spec["kind"] == "pixels":
        recorded = recorded_pixels(weights, body.config["model"])
        require_pixels("transformers", input_spec, (recorded["channels"],))
        body.preprocessing = pixel_preprocessing(input_spec, **recorded)
    else:
        body.assets = {TOKENIZER: read_tokenizer(weights)}
        body.preprocessing = token_preprocessing(
            body.module, body.assets[TOKENIZER], input_spec["max_length"]
        )
        probe = {"input_ids": torch.tensor([[0, 0]]), "attention_mask": torch.tensor([[1, 1]])}
    body.width = width_of(body, f"backbone.weights: {weights.name} cannot be used as an encoder", probe)
    body.config["width"] = body.width


def _mean_of_tokens(module: nn.Module, batch: Batch) -> Tensor:
    """Mean over the tokens that are there: [B, T, D] → float32 [B, D]."""
    states = module(**batch).last_hidden_state.float()
    if "attention_mask" not in batch:
        return states.mean(1)
    mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1)


def _first_token(module: nn.Module, batch: Batch) -> Tensor:
    return module(**batch).last_hidden_state[:, 0]


def _every_token(module: nn.Module, batch: Batch) -> Tensor:
    """[B, T, D], 0 where there is no token. A task's batch may hold more than the network reads."""
    read = {name: batch[name] for name in _READ if name in batch}
    states: Tensor = module(**read).last_hidden_state
    if "attention_mask" not in batch:
        return states
    return states.masked_fill(batch["attention_mask"].unsqueeze(-1) == 0, 0)


def _image_features(pooling: str) -> Any:
    """Features of images. `own`: what the network pools itself, else its first (class) token."""

    def features(module: nn.Module, batch: Batch) -> Tensor:
        # At another size than the one it was made with, some interpolate their positions only when told to.
        bends = "interpolate_pos_encoding" in inspect.signature(module.forward).parameters
        made = module(pixel_values=batch["pixels"], **({"interpolate_pos_encoding": True} if bends else {}))
        states = made.last_hidden_state  # [B, T, D], of convolutional networks [B, D, H, W]
        pooled = getattr(made, "pooler_output", None)
        if pooling == "own" and pooled is not None:
            return pooled.flatten(1)
        if states.dim() == 4:
            return states.mean((2, 3))
        return states.mean(1) if pooling == "mean" else states[:, 0]

    return features
