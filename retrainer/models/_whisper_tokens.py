"""Which tokens frame a Whisper's texts, and which ones it never writes.

OpenAI's own search leaves out the symbols that are no speech (`suppress_tokens`: brackets, notes, `>>`), and
lets no text begin with its end or a blank (`begin_suppress_tokens`). A text of the training rows that has
such a symbol, or nothing at all, shows that it is wanted here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from retrainer.errors import SettingError
from retrainer.models._text import read_json, read_tokenizer

_MULTILINGUAL_TOKENS = 51_865  # from so many on, a Whisper knows languages (as OpenAI's own code tells)
_END = "<|endoftext|>"
# Newer directories have the lists in the first of these files.
_NOTES = "generation_config.json", "config.json"


def marks(weights: Path, vocabulary: int, language: str) -> dict[str, Any]:
    """`start`: tokens before a text, that say its language and that no times are wanted; `end` behind it.

    `never` and `never_first`: ids of a directory in Hugging Face layout that its search leaves out.
    """
    names = ["<|startoftranscript|>", "<|notimestamps|>", _END]
    if vocabulary >= _MULTILINGUAL_TOKENS:
        names[1:1] = [f"<|{language}|>", "<|transcribe|>"]
    tokenizer = Tokenizer.from_buffer(read_tokenizer(weights))
    ids = [tokenizer.token_to_id(name) for name in names]
    if None in ids:
        raise SettingError(
            f"backbone.weights: {weights.name}'s tokenizer has no {names[ids.index(None)]}; choose a"
            " Whisper's, and a backbone.language that it knows"
        )
    never = _noted(weights, "suppress_tokens", vocabulary)
    first = _noted(weights, "begin_suppress_tokens", vocabulary)
    return {"start": ids[:-1], "end": ids[-1], "never": never, "never_first": first}


def _noted(weights: Path, key: str, vocabulary: int) -> list[int]:
    for file in _NOTES:
        said = read_json(weights / file) if (weights / file).is_file() else {}
        if isinstance(said.get(key), list):
            return sorted({id for id in said[key] if isinstance(id, int) and 0 <= id < vocabulary})
    return []


def wanted_after_all(config: dict[str, Any], input_spec: dict[str, Any], tokenizer: bytes) -> dict[str, Any]:
    """`never` and `never_first` of `config` without what the training rows have: characters, empty texts."""
    reader, units = Tokenizer.from_buffer(tokenizer), set(input_spec["units"])

    def absent(token: int) -> bool:
        letters = reader.decode([token]).strip()
        return not letters or not units.issuperset(letters)

    never = [token for token in config.get("never") or () if absent(token)]
    first = [] if input_spec["silence"] else list(config.get("never_first") or ())
    return {"never": never, "never_first": first}
