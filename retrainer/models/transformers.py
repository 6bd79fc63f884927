"""Hugging Face encoders: text (BERT, MiniLM, RoBERTa, …) and images (ViT, ConvNeXt, DINO, …).

The weights' directory tells the architecture. Only safetensors are read, and no code out of the directory is run.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retrainer.errors import UserError
from retrainer.settings import Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrainer.models._network import Batch, Body

SHAPED_BY_WEIGHTS = True
TOKENIZER = "tokenizer.json"
# Keys of a configuration that say where it came from, not what it is.
_ORIGIN = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "architectures", "_commit_hash")


class Options(Section):
    """Further keys of `backbone:` for this family."""

    pooling: Literal["auto", "mean", "cls"] = Field(
        "auto", description="tokens to one vector; auto: mean for sentence encoders, else the first token"
    )


def build(options: Options, wanted: dict[str, Any], weights: Path | str | None, seed: int, fresh: bool) -> Body:
    """An encoder and the files that its input needs."""
    from retrainer.models._start import drawn_from, fill, is_ours, our_config, read_tensors

    if not isinstance(weights, Path) or not weights.is_dir():
        raise UserError(
            "backbone.weights: the transformers family reads its architecture from them; give a directory with"
            " config.json (a hub id, a local directory, package:NAME or models:/NAME@ALIAS)"
        )
    ours = is_ours(weights)
    config = our_config(weights, "transformers") if ours else _theirs(weights, options)
    if config["input"] != wanted["kind"]:
        raise UserError(f"backbone.weights: that model reads {config['input']}, but task.kind gives {wanted['kind']}")
    with drawn_from(seed):
        body = restore(config) if fresh or ours else _pretrained(weights, config)
    if ours and not fresh:
        fill(body.module, read_tensors(weights))
    if wanted["kind"] == "tokens":
        body.assets = {TOKENIZER: _tokenizer(weights)}
        body.preprocessing = _token_preprocessing(config["model"], body.assets[TOKENIZER], wanted["max_length"])
    else:
        body.preprocessing = _pixel_preprocessing(weights, config["model"], wanted)
    return body


def restore(config: dict[str, Any]) -> Body:
    """The architecture that `config` describes, with random values."""
    from transformers import AutoConfig, AutoModel

    model = dict(config["model"])
    described = AutoConfig.for_model(model.pop("model_type"), **model)
    return _body(AutoModel.from_config(described, trust_remote_code=False), config)


def _pretrained(weights: Path, config: dict[str, Any]) -> Body:
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it warns of the head that is left behind, as it should be
    try:
        module = AutoModel.from_pretrained(
            weights, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"backbone.weights: {weights.name} cannot be loaded: {reason}") from None
    return _body(module, config)


def _body(module: nn.Module, config: dict[str, Any]) -> Body:
    from retrainer.models._network import Body

    if config["input"] == "tokens":
        module.pooler = None  # an untrained or other task's layer: ours pools without one
        features = _mean_of_tokens if config["pooling"] == "mean" else _first_token
    else:
        features = _image_features
        if hasattr(getattr(module, "pooler", None), "dense"):
            module.pooler = None
    shape = module.config
    width = getattr(shape, "hidden_size", None) or shape.hidden_sizes[-1]
    return Body(module, features, int(width), config, preprocessing={})


def _theirs(weights: Path, options: Options) -> dict[str, Any]:
    """Our description of a directory in Hugging Face layout."""
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(weights, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"backbone.weights: {weights.name}/config.json cannot be read: {reason}") from None
    model = {"model_type": found.model_type} | found.to_diff_dict()
    model = {key: value for key, value in model.items() if key not in _ORIGIN}
    reads_pixels = hasattr(found, "num_channels")
    return {
        "input": "pixels" if reads_pixels else "tokens",
        "pooling": _pooling(weights, options),
        "model": json.loads(json.dumps(model)),
    }


def _pooling(weights: Path, options: Options) -> str:
    if options.pooling != "auto":
        return options.pooling
    # Sentence encoders come with this file, and were trained to be read by the mean of their tokens.
    note = weights / "1_Pooling" / "config.json"
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens"):
        return "mean"
    return "cls"


def _tokenizer(weights: Path) -> bytes:
    path = weights / TOKENIZER
    if not path.is_file():
        raise UserError(
            f"backbone.weights: {weights.name} has no {TOKENIZER}; save it there once with"
            " AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        )
    return path.read_bytes()


def _token_preprocessing(model: dict[str, Any], tokenizer: bytes, max_length: int) -> dict[str, Any]:
    from transformers import AutoConfig

    config = AutoConfig.for_model(**model)
    # RoBERTa and its kin count positions from behind the padding id.
    offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    room = getattr(config, "max_position_embeddings", None) or max_length + offset
    padding = json.loads(tokenizer).get("padding") or {}
    pad_id = config.pad_token_id if config.pad_token_id is not None else padding.get("pad_id", 0)
    return {
        "kind": "tokens",
        "tokenizer": TOKENIZER,
        "max_length": min(max_length, room - offset),
        "pad_id": int(pad_id),
        "pairs": getattr(config, "type_vocab_size", 0) > 1,
    }


def _pixel_preprocessing(weights: Path, model: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Size, mean and spread from the directory's own note, the task's size winning."""
    if wanted["channels"] == 1:
        raise UserError("task.channels: these models take 3; leave it out, grey images are widened")
    recorded = weights / "model.json"
    if recorded.is_file():
        theirs = dict(json.loads(recorded.read_text(encoding="utf-8"))["preprocessing"])
        return theirs | ({"size": list(wanted["size"])} if wanted["size"] else {})
    path = weights / "preprocessor_config.json"
    note = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    size = note.get("crop_size") or note.get("size") or model.get("image_size") or 224
    side = next(iter(size.values())) if isinstance(size, dict) else size
    return {
        "kind": "pixels",
        "size": list(wanted["size"] or (int(side), int(side))),
        "channels": 3,
        "mean": note.get("image_mean") or [0.5, 0.5, 0.5],
        "std": note.get("image_std") or [0.5, 0.5, 0.5],
    }


def _mean_of_tokens(module: nn.Module, batch: Batch) -> Tensor:
    states = module(**batch).last_hidden_state  # [B, T, D]
    mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1)  # type: ignore[no-any-return]


def _first_token(module: nn.Module, batch: Batch) -> Tensor:
    return module(**batch).last_hidden_state[:, 0]  # type: ignore[no-any-return]


def _image_features(module: nn.Module, batch: Batch) -> Tensor:
    """The class token of a transformer; what a convolutional network pools itself."""
    pixels = batch["pixels"]
    # Another size than the one it was made with: some interpolate their positions only when told to.
    bends = "interpolate_pos_encoding" in inspect.signature(module.forward).parameters
    made = module(pixel_values=pixels, **({"interpolate_pos_encoding": True} if bends else {}))
    if made.last_hidden_state.dim() == 3:
        return made.last_hidden_state[:, 0]  # type: ignore[no-any-return]
    return made.pooler_output.flatten(1)  # type: ignore[no-any-return]
