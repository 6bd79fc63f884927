"""What a Hugging Face directory says of text: tokenizer, the room for tokens, how sentences are pooled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import nn

from retrainer.errors import SettingError

TOKENIZER = "tokenizer.json"
# Embeddings may have spare rows: padding to a round number, room for tokens to come.
_MOST_SPARE, _MOST_SPARE_SHARE = 1024, 0.03
# Names of pooling modes in the notes of sentence-transformers, old and new.
_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "mean": "mean", "cls": "cls"}


def read_json(path: Path) -> Any:
    """The content of a file of the weights' directory. Raises UserError when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"backbone.weights: {path.name} cannot be read ({error})") from None


def pooling_of(weights: Path, architectures: list[str]) -> str:
    """`mean` or `cls`: as a sentence encoder was trained to be read; else the first token, as BERT's kin are.

    A decoder's first token has seen nothing but itself, so a decoder is read by the mean.
    """
    note = weights / "1_Pooling" / "config.json"
    if note.is_file():
        return _noted(read_json(note))
    if (weights / "modules.json").is_file():
        return "mean"
    return "mean" if any("CausalLM" in name or "LMHead" in name for name in architectures) else "cls"


def _noted(note: dict[str, Any]) -> str:
    given = note.get("pooling_mode") or [key for key, on in note.items() if "pooling_mode_" in key and on]
    modes = [given] if isinstance(given, str) else list(given)
    if len(modes) == 1 and modes[0] in _MODES:
        return _MODES[modes[0]]
    raise SettingError(
        f"backbone.pooling: these weights are read by {modes}; set backbone.pooling: mean or cls"
    )


def read_tokenizer(weights: Path) -> bytes:
    path = weights / TOKENIZER
    if not path.is_file():
        raise SettingError(
            f"backbone.weights: {weights.name} has no {TOKENIZER}; save it there once with"
            " AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        )
    return path.read_bytes()


def token_preprocessing(module: nn.Module, tokenizer: bytes, max_length: int) -> dict[str, Any]:
    """How texts become token ids. Raises UserError when the tokenizer or the length do not fit `module`."""
    config: Any = module.config
    room = _room(module)
    if room is not None and max_length > room:
        raise SettingError(
            f"task.max_length: {max_length}, but this model takes {room} tokens; set {room} or less"
        )
    try:
        vocabulary = Tokenizer.from_buffer(tokenizer).get_vocab()
        highest = max(vocabulary.values())
    except Exception as error:  # its own kind of error, with no name of its own
        raise SettingError(f"backbone.weights: {TOKENIZER} cannot be read ({error})") from None
    known = module.get_input_embeddings().num_embeddings
    if highest >= known:
        raise SettingError(
            f"backbone.weights: {TOKENIZER} has token {highest}, but the model knows only {known}"
        )
    if known - len(vocabulary) > max(_MOST_SPARE, _MOST_SPARE_SHARE * known):
        raise SettingError(
            f"backbone.weights: {TOKENIZER} has {len(vocabulary):,} tokens and the model knows {known:,}: it"
            " is the tokenizer of other weights; save the one of these beside them"
        )
    padding = json.loads(tokenizer).get("padding") or {}
    pad_id = config.pad_token_id if config.pad_token_id is not None else padding.get("pad_id", 0)
    return {
        "kind": "tokens",
        "tokenizer": TOKENIZER,
        "max_length": max_length,
        "max_positions": room,
        "pad_id": int(pad_id),
        "pairs": (getattr(config, "type_vocab_size", 0) or 0) > 1,
    }


def _room(module: nn.Module) -> int | None:
    """The most tokens that the model takes; None where positions have no end."""
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, nn.Embedding):
            # RoBERTa and its kin count positions from behind the padding id.
            return part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
    return getattr(module.config, "max_position_embeddings", None)
