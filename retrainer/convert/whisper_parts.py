"""What a Whisper of CTranslate2 is made of, and by which names transformers knows it.

From CTranslate2's own converter: `WhisperLoader` and `BartLoader` (at commit 0d8bcd3, lines 933 and 290 of
python/ctranslate2/converters/transformers.py), whose `fuse_linear` (converters/utils.py) puts query, key and
value below each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from retrainer.errors import ModelError
from retrainer.formats.ctranslate2 import Contents


class Part(NamedTuple):
    """A variable that is cut into the tensors `names` along its first axis; "" is one that must be 0."""

    variable: str
    names: tuple[str, ...]
    shape: tuple[int, ...]


def size_of(path: Path, found: Contents, name: str, rank: int) -> tuple[int, ...]:
    variable = found.variables.get(name)
    if variable is None or len(variable.shape) != rank or 0 in variable.shape:
        raise ModelError(f"{path} lacks {name} of {rank} axes, which tells a Whisper's size")
    return variable.shape


def layers_of(found: Contents, side: str) -> int:
    numbers = {match[1] for name in found.variables if (match := re.match(rf"{side}/layer_(\d+)/", name))}
    return len(numbers)


def parts_of(path: Path, found: Contents) -> Iterator[Part]:
    """What a Whisper of this size is made of."""
    width, mels, _ = size_of(path, found, "encoder/conv1/weight", 3)
    for number, inputs in (1, mels), (2, width):
        names = f"model.encoder.conv{number}.weight", f"model.encoder.conv{number}.bias"
        yield Part(f"encoder/conv{number}/weight", names[:1], (width, inputs, 3))
        yield Part(f"encoder/conv{number}/bias", names[1:], (width,))
    rows = size_of(path, found, "decoder/embeddings/weight", 2)[0]
    yield Part("decoder/embeddings/weight", ("model.decoder.embed_tokens.weight",), (rows, width))
    for side in "encoder", "decoder":
        rows = size_of(path, found, f"{side}/position_encodings/encodings", 2)[0]
        name = f"model.{side}.embed_positions.weight"
        yield Part(f"{side}/position_encodings/encodings", (name,), (rows, width))
        yield from _norm(f"{side}/layer_norm", f"model.{side}.layer_norm", width)
        inner = size_of(path, found, f"{side}/layer_0/ffn/linear_0/bias", 1)[0]
        for number in range(layers_of(found, side)):
            theirs, ours = f"{side}/layer_{number}", f"model.{side}.layers.{number}"
            yield from _layer(theirs, ours, width, inner, side == "decoder")


def _layer(theirs: str, ours: str, width: int, inner: int, crossed: bool) -> Iterator[Part]:
    yield from _norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm", width)
    attention = f"{ours}.self_attn"
    yield from _linear(f"{theirs}/self_attention/linear_0", attention, ("q_proj", "k_proj", "v_proj"), width)
    yield from _linear(f"{theirs}/self_attention/linear_1", attention, ("out_proj",), width)
    if crossed:
        attention = f"{ours}.encoder_attn"
        yield from _norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm", width)
        yield from _linear(f"{theirs}/attention/linear_0", attention, ("q_proj",), width)
        yield from _linear(f"{theirs}/attention/linear_1", attention, ("k_proj", "v_proj"), width)
        yield from _linear(f"{theirs}/attention/linear_2", attention, ("out_proj",), width)
    yield from _norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm", width)
    for number, outputs, inputs in (0, inner, width), (1, width, inner):
        names = f"{ours}.fc{number + 1}.weight", f"{ours}.fc{number + 1}.bias"
        yield Part(f"{theirs}/ffn/linear_{number}/weight", names[:1], (outputs, inputs))
        yield Part(f"{theirs}/ffn/linear_{number}/bias", names[1:], (outputs,))


def _norm(theirs: str, ours: str, width: int) -> Iterator[Part]:
    yield Part(f"{theirs}/gamma", (f"{ours}.weight",), (width,))
    yield Part(f"{theirs}/beta", (f"{ours}.bias",), (width,))


def _linear(theirs: str, ours: str, layers: tuple[str, ...], width: int) -> Iterator[Part]:
    """Layers below each other. Whisper's keys have no bias: theirs is 0."""
    rows = len(layers) * width
    yield Part(f"{theirs}/weight", tuple(f"{ours}.{layer}.weight" for layer in layers), (rows, width))
    biases = tuple("" if layer == "k_proj" else f"{ours}.{layer}.bias" for layer in layers)
    yield Part(f"{theirs}/bias", biases, (rows,))
