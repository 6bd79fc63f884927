"""A tiny Whisper with random values, in the layouts of Hugging Face and of CTranslate2."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import WhisperConfig, WhisperForConditionalGeneration

Arrays = Mapping[str, np.ndarray]

MARKS = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")
WORDS = (*MARKS, "a", "b", "▁")
_TYPES = ("float32", "int8", "int16", "int32", "float16")


def tiny_whisper(folder: Path, suppressed: tuple[int, ...] = (), first: tuple[int, ...] = ()) -> Path:
    """One layer a side, a tokenizer of a few letters, and 2 s of sound; in Hugging Face's layout."""
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, "▁"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens(list(MARKS))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    shape = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": len(WORDS)}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    feed = {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    size = {"num_mel_bins": 80, "max_source_positions": 100, "max_target_positions": 24}
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "decoder_start_token_id": 1}
    left_out = {"suppress_tokens": list(suppressed), "begin_suppress_tokens": list(first)}
    torch.manual_seed(0)
    network = WhisperForConditionalGeneration(
        WhisperConfig(**shape, **heads, **feed, **size, **ids, **left_out)
    )
    network.half().float().save_pretrained(folder)  # values that fit into CTranslate2's 16 bits
    return folder


def as_ctranslate2(whisper: Path, folder: Path, suppressed: tuple[int, ...] = ()) -> Path:
    """The same in CTranslate2's layout, written as its own converter writes it."""
    folder.mkdir(parents=True)
    write_file(folder / "model.bin", variables_of(whisper))
    (folder / "tokenizer.json").write_bytes((whisper / "tokenizer.json").read_bytes())
    note = {"suppress_ids": list(suppressed), "suppress_ids_begin": [], "lang_ids": [], "alignment_heads": []}
    (folder / "config.json").write_text(json.dumps(note))
    return folder


def variables_of(whisper: Path) -> dict[str, np.ndarray]:
    """What CTranslate2's `WhisperSpec` holds of it."""
    network = WhisperForConditionalGeneration.from_pretrained(whisper, dtype=torch.float16)
    state = {name.removeprefix("model."): tensor.numpy() for name, tensor in network.state_dict().items()}
    made: dict[str, np.ndarray] = {
        "encoder/num_heads": np.int16(2),
        "decoder/num_heads": np.int16(2),
        "decoder/activation": np.int8(3),
        "decoder/pre_norm": np.int8(1),
        "decoder/alignment_layer": np.int16(-1),
        "decoder/alignment_heads": np.int16(1),
        **{
            f"decoder/{name}": np.int8(0)
            for name in ("alibi", "scale_embeddings", "start_from_zero_embedding")
        },
        "decoder/embeddings/weight": state["decoder.embed_tokens.weight"],
    }
    for name in ("conv1", "conv2"):
        made |= {f"encoder/{name}/{kind}": state[f"encoder.{name}.{kind}"] for kind in ("weight", "bias")}
    for side in ("encoder", "decoder"):
        made[f"{side}/position_encodings/encodings"] = state[f"{side}.embed_positions.weight"]
        made |= _norm(state, f"{side}.layer_norm", f"{side}/layer_norm")
        made |= _layer(state, f"{side}.layers.0", f"{side}/layer_0")
    return made


def _layer(state: Arrays, ours: str, theirs: str) -> dict[str, np.ndarray]:
    made = _norm(state, f"{ours}.self_attn_layer_norm", f"{theirs}/self_attention/layer_norm")
    made |= _norm(state, f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm")
    fused = {"self_attn": ("self_attention", (("q_proj", "k_proj", "v_proj"), ("out_proj",)))}
    if f"{ours}.encoder_attn.q_proj.weight" in state:
        fused["encoder_attn"] = ("attention", (("q_proj",), ("k_proj", "v_proj"), ("out_proj",)))
        made |= _norm(state, f"{ours}.encoder_attn_layer_norm", f"{theirs}/attention/layer_norm")
    for attention, (name, layers) in fused.items():
        for place, parts in enumerate(layers):
            for kind in ("weight", "bias"):
                made[f"{theirs}/{name}/linear_{place}/{kind}"] = np.concatenate(
                    [_part(state, f"{ours}.{attention}.{part}", kind) for part in parts]
                )
    for place in (0, 1):
        for kind in ("weight", "bias"):
            made[f"{theirs}/ffn/linear_{place}/{kind}"] = state[f"{ours}.fc{place + 1}.{kind}"]
    return made


def _part(state: Arrays, layer: str, kind: str) -> np.ndarray:
    """Keys have no bias, for which the converter writes zeros."""
    found = state.get(f"{layer}.{kind}")
    return np.zeros(state[f"{layer}.weight"].shape[0], np.float16) if found is None else found


def _norm(state: Arrays, ours: str, theirs: str) -> dict[str, np.ndarray]:
    return {f"{theirs}/gamma": state[f"{ours}.weight"], f"{theirs}/beta": state[f"{ours}.bias"]}


def write_file(path: Path, variables: Mapping[str, Any], **changes: Any) -> Path:
    """A `model.bin`; `changes`: version, specification, revision, aliases, tail (bytes)."""
    said = {"version": 6, "specification": "WhisperSpec", "revision": 3, "tail": b""} | changes
    aliases = said.get("aliases", {"decoder/projection/weight": "decoder/embeddings/weight"})
    parts = [struct.pack("<I", said["version"]), text(said["specification"])]
    parts += [struct.pack("<II", said["revision"], len(variables))]
    parts += [variable(name, np.asarray(value)) for name, value in sorted(variables.items())]
    parts += [struct.pack("<I", len(aliases))]
    parts += [text(alias) + text(name) for alias, name in aliases.items()]
    path.write_bytes(b"".join([*parts, said["tail"]]))
    return path


def text(content: str) -> bytes:
    return struct.pack("<H", len(content) + 1) + content.encode() + b"\0"


def variable(name: str, value: np.ndarray, size: int | None = None, kind: int | None = None) -> bytes:
    """`size` and `kind` claim something else than is true."""
    kind = _TYPES.index(value.dtype.name) if kind is None else kind
    axes = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
    return (
        text(name) + axes + struct.pack("<BI", kind, value.nbytes if size is None else size) + value.tobytes()
    )
