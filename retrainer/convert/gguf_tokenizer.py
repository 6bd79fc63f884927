"""The tokenizer of a GGUF file, of byte-level BPE, as Hugging Face's `tokenizer.json`.

`tokenizer.ggml.pre` tells how a text is divided before its bytes are merged. llama.cpp's "smollm" divides at
every numeral and then as GPT-2 does (src/llama-vocab.cpp). transformers' own reading of GGUF (5.23) does the
latter alone: of 23,146 texts one came out otherwise, by SmolLM2's tokens, which had a ½ behind a space.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import ModelError
from retrainer.formats.files import write_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PREFIX = "tokenizer.ggml."
_MODEL, _DIVIDED = "gpt2", {"smollm": True, "gpt-2": False}  # whether each digit stands alone
_CONTROL, _USER_DEFINED = 3, 4
_MARKS = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unknown": "unknown_token_id",
    "padding": "padding_token_id",
}
_NAMES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
_TEMPLATE = "tokenizer.chat_template"


def require_tokenizer(path: Path, metadata: dict[str, Any], rows: int) -> None:
    """Raises ModelError for a tokenizer that is of another kind, or not of a model with so many tokens."""
    kind, divided = metadata.get(f"{_PREFIX}model"), metadata.get(f"{_PREFIX}pre")
    if kind != _MODEL or not isinstance(divided, str) or divided not in _DIVIDED:
        raise ModelError(
            f"{path} has a tokenizer {kind!r} ({divided!r}), and of GGUF files {_MODEL!r} alone is read"
            f" ({' or '.join(_DIVIDED)}); take the model as safetensors"
        )
    tokens, types = _texts(path, metadata, "tokens"), metadata.get(f"{_PREFIX}token_type", [])
    if not isinstance(types, list):
        raise ModelError(f"{path}: {_PREFIX}token_type is no list; convert the model again")
    if len(tokens) != rows or len(set(tokens)) != rows or len(types) not in (0, rows):
        raise ModelError(
            f"{path} has {len(tokens):,} tokens for {rows:,} rows of the embedding, or one twice"
        )
    if bad := [merge for merge in _texts(path, metadata, "merges") if len(merge.split(" ")) != 2]:
        raise ModelError(f"{path}: {bad[0]!r} among its merges joins no two parts")
    for name in _MARKS.values():
        mark = metadata.get(f"{_PREFIX}{name}", 0)
        if not isinstance(mark, int) or isinstance(mark, bool) or not 0 <= mark < rows:
            raise ModelError(f"{path}: {_PREFIX}{name} is {mark!r}, which is no token")
    if f"{_PREFIX}eos_token_id" not in metadata:
        raise ModelError(f"{path} does not say which token ends a text ({_PREFIX}eos_token_id)")


def _texts(path: Path, metadata: dict[str, Any], name: str) -> list[str]:
    found = metadata.get(f"{_PREFIX}{name}")
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ModelError(f"{path} has no {_PREFIX}{name}; convert the model again")
    return found


def write_tokenizer(path: Path, metadata: dict[str, Any], into: Path) -> dict[str, int]:
    """Writes tokenizer.json and tokenizer_config.json; returns the ids of marks, by config.json's names."""
    tokens = _texts(path, metadata, "tokens")
    _tokenizer(path, metadata, tokens).save(str(into / "tokenizer.json"))
    marks = {name: metadata.get(f"{_PREFIX}{key}") for name, key in _MARKS.items()}
    named = {_NAMES[name]: tokens[mark] for name, mark in marks.items() if mark is not None}
    template = metadata.get(_TEMPLATE)
    note = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    if isinstance(template, str) and template:
        note["chat_template"] = template
    write_json(into / "tokenizer_config.json", note)
    ids = {"bos_token_id": marks["bos"], "eos_token_id": marks["eos"], "pad_token_id": marks["padding"]}
    return {name: mark for name, mark in ids.items() if mark is not None}


def _tokenizer(path: Path, metadata: dict[str, Any], tokens: list[str]) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    merges = [
        (one, other) for one, _, other in (merge.partition(" ") for merge in _texts(path, metadata, "merges"))
    ]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    try:
        made = Tokenizer(models.BPE(vocabulary, merges))
    except Exception as error:  # its own kind of error, with no name of its own
        raise ModelError(f"{path}: its tokens and merges make no tokenizer ({error})") from None
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=bool(metadata.get(f"{_PREFIX}add_space_prefix")))
    digits = pre_tokenizers.Digits(individual_digits=True)
    divided = _DIVIDED[metadata[f"{_PREFIX}pre"]]
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, by_bytes]) if divided else by_bytes
    made.decoder = decoders.ByteLevel()
    types = metadata.get(f"{_PREFIX}token_type", [])
    whole = [
        (token, kind) for token, kind in zip(tokens, types, strict=False) if kind in (_CONTROL, _USER_DEFINED)
    ]
    made.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t, kind in whole if kind == _CONTROL]
    )
    made.add_tokens([AddedToken(t, normalized=False) for t, kind in whole if kind == _USER_DEFINED])
    return made
