"""A Whisper of CTranslate2, as faster-whisper reads it, in the layout of Hugging Face.

The values stay as they are, to the bit; `retrainer/convert/whisper_parts.py` has the names.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.convert.kept import kept
from retrainer.convert.whisper_parts import layers_of, parts_of, size_of
from retrainer.errors import ModelError, SettingError
from retrainer.formats.ctranslate2 import Contents, read_contents, read_values
from retrainer.formats.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

MODEL = "model.bin"
_KIND = "converted_whisper"
_SPECIFICATION, _REVISION = "WhisperSpec", 3
_TOKENIZER, _EXTRACTOR = "tokenizer.json", "preprocessor_config.json"
_FLOATS = {"float16", "bfloat16", "float32"}
# Scalars that tell an architecture: transformers' Whisper is this one alone.
_NEEDED = {
    "decoder/activation": 3,  # GELU, of common_spec.Activation
    "decoder/pre_norm": 1,
    "decoder/scale_embeddings": 0,
    "decoder/alibi": 0,
    "decoder/start_from_zero_embedding": 0,
}
# Others that say nothing of its values.
_UNUSED = {f"decoder/{name}" for name in ("alignment_heads", "alignment_layer")}
_UNUSED |= {f"decoder/{name}" for name in ("alibi_use_positive_positions", "scale_alibi")}  # without alibi
_HEADS = "encoder/num_heads", "decoder/num_heads"
_ALIAS = {"decoder/projection/weight": "decoder/embeddings/weight"}
# Of CTranslate2's config.json and of transformers'.
_LEFT_OUT = {"suppress_ids": "suppress_tokens", "suppress_ids_begin": "begin_suppress_tokens"}


def is_whisper_of_ctranslate2(folder: Path) -> bool:
    """Whether the directory has CTranslate2's model file and no weights that are read as they are."""
    return (folder / MODEL).is_file() and not any(folder.glob("*.safetensors"))


def check_whisper(folder: Path) -> None:
    """Raises UserError where the model file, of which no value is read, is damaged or no such Whisper."""
    _read(folder)


def converted(folder: Path, sha256: str, cache: Path) -> Path:
    """The directory in Hugging Face layout, made once: `sha256` is that of the files in `folder`.

    What lies in `cache` is used where its hashes hold. Raises UserError for files that cannot be used.
    """
    return kept(cache / f"whisper-{sha256}", _KIND, lambda into: _write(folder, _read(folder), into))


def _read(folder: Path) -> Contents:
    path = folder / MODEL
    found = read_contents(path)
    if (found.specification, found.revision) != (_SPECIFICATION, _REVISION):
        raise ModelError(
            f"{path} is a {found.specification} of revision {found.revision}; of CTranslate2's models a"
            f" {_SPECIFICATION} of revision {_REVISION} alone is read"
        )
    if not (folder / _TOKENIZER).is_file():
        raise SettingError(f"backbone.weights: {folder} has no {_TOKENIZER}; put this Whisper's own there")
    _check(path, found)
    return found


def _check(path: Path, found: Contents) -> None:
    """Raises ModelError where a variable is missing, unknown, misshapen, or of whole numbers."""
    parts = list(parts_of(path, found))
    known = {part.variable for part in parts} | {*_NEEDED, *_UNUSED, *_HEADS}
    for part in parts:
        variable = found.variables.get(part.variable)
        if variable is None:
            raise ModelError(f"{path} lacks {part.variable}; convert the model again")
        if variable.type not in _FLOATS:
            raise ModelError(
                f"{path}: {part.variable} is quantised to {variable.type}, which cannot be trained on; take"
                " the same model converted with --quantization float16"
            )
        if variable.shape != part.shape:
            raise ModelError(
                f"{path}: {part.variable} has the shape {list(variable.shape)}, needed is {list(part.shape)}"
            )
    if unknown := sorted(found.variables.keys() - known):
        raise ModelError(f"{path} has {unknown[0]}, which no Whisper has")
    if found.aliases != _ALIAS:
        raise ModelError(f"{path} writes by another table than it reads by: none of Whisper's sizes does")
    for name, value in _NEEDED.items():
        if name in found.variables and _scalar(path, found, name) != value:
            raise ModelError(f"{path}: {name} is {_scalar(path, found, name)}, and of a Whisper {value}")
    width = found.variables["encoder/conv1/weight"].shape[0]
    for name in _HEADS:
        if (heads := _scalar(path, found, name)) < 1 or width % heads:
            raise ModelError(f"{path}: {name} is {heads}, which does not divide its width {width}")


def _scalar(path: Path, found: Contents, name: str) -> int:
    variable = found.variables.get(name)
    if variable is None or variable.shape or not variable.type.startswith("int"):
        raise ModelError(f"{path}: {name} is no whole number, which a Whisper has there")
    return int(read_values(path, variable))


def _tensors(path: Path, found: Contents) -> Iterator[tuple[str, Tensor]]:
    for part in parts_of(path, found):
        pieces = read_values(path, found.variables[part.variable]).chunk(len(part.names))
        for name, piece in zip(part.names, pieces, strict=True):
            if name:
                yield name, piece.contiguous()
            elif piece.any():
                raise ModelError(f"{path}: {part.variable} has a bias of keys, which no Whisper has")


def _write(folder: Path, found: Contents, into: Path) -> None:
    from safetensors.torch import save_file

    path = folder / MODEL
    save_file(dict(_tensors(path, found)), into / "model.safetensors", {"format": "pt"})
    shutil.copy(folder / _TOKENIZER, into / _TOKENIZER)
    if (folder / _EXTRACTOR).is_file():
        shutil.copy(folder / _EXTRACTOR, into / _EXTRACTOR)
    write_json(into / "config.json", _config(folder, found))


def _config(folder: Path, found: Contents) -> dict[str, Any]:
    """As of transformers' WhisperConfig, which has defaults for the rest."""
    path = folder / MODEL
    width, mels, _ = size_of(path, found, "encoder/conv1/weight", 3)
    shape: dict[str, Any] = {"model_type": "whisper", "d_model": width, "num_mel_bins": mels}
    shape["architectures"] = ["WhisperForConditionalGeneration"]
    shape["vocab_size"] = size_of(path, found, "decoder/embeddings/weight", 2)[0]
    for side, positions in ("encoder", "max_source_positions"), ("decoder", "max_target_positions"):
        shape[f"{side}_layers"] = layers_of(found, side)
        shape[f"{side}_attention_heads"] = _scalar(path, found, f"{side}/num_heads")
        shape[f"{side}_ffn_dim"] = size_of(path, found, f"{side}/layer_0/ffn/linear_0/bias", 1)[0]
        shape[positions] = size_of(path, found, f"{side}/position_encodings/encodings", 2)[0]
    return shape | _tokens(folder, shape["vocab_size"]) | _left_out(folder)


def _tokens(folder: Path, rows: int) -> dict[str, Any]:
    """The ids of the marks that frame a text. Raises SettingError for a tokenizer of other weights."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
    except Exception as error:  # its own kind of error, with no name of its own
        raise SettingError(f"backbone.weights: {folder / _TOKENIZER} cannot be read ({error})") from None
    start, end = (tokenizer.token_to_id(name) for name in ("<|startoftranscript|>", "<|endoftext|>"))
    if start is None or end is None or max(tokenizer.get_vocab().values()) >= rows:
        raise SettingError(f"backbone.weights: {folder / _TOKENIZER} is not the tokenizer of this Whisper")
    marks = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end)
    return {"decoder_start_token_id": start, **marks}


def _left_out(folder: Path) -> dict[str, list[int]]:
    """Tokens that its search never writes, where CTranslate2's config.json has them (`WhisperConfig`)."""
    note = folder / "config.json"
    try:
        said = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
        found = {ours: said.get(theirs) or [] for theirs, ours in _LEFT_OUT.items()}
        if all(isinstance(token, int) for tokens in found.values() for token in tokens):
            return found
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        pass
    raise SettingError(f"backbone.weights: {note} is no config.json of CTranslate2; copy it again")
