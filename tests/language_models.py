"""Tiny language models of the llama architecture with random values, in Hugging Face's layout and as GGUF."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# As SmolLM2's, but for the system message that it writes where none is given.
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = [("a", "n"), ("1", "2")]
TOKENS = [*MARKS, *ALPHABET, "an", "12"]
SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}


def tiny_llama(folder: Path, tied: bool = True, template: str = TEMPLATE, scale: float = 4.0) -> Path:
    """Every byte is a token."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE({token: place for place, token in enumerate(TOKENS)}, MERGES))
    digits = pre_tokenizers.Digits(individual_digits=True)
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, by_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    tokenizer.save(str(folder / "tokenizer.json"))
    note = {"chat_template": template, "bos_token": MARKS[1], "eos_token": MARKS[2]}
    (folder / "tokenizer_config.json").write_text(json.dumps(note))
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    config = LlamaConfig(vocab_size=len(TOKENS), tie_word_embeddings=tied, rope_theta=5000.0, **SHAPE, **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = LlamaForCausalLM(config).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(scale)  # else all tokens are about as likely
    network.save_pretrained(folder)
    return folder


# --- GGUF ----------------------------------------------------------------------------------------------

_LETTERS = {int: ("I", 4), float: ("f", 6), bool: ("?", 7)}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def entry(key: str, value: Any) -> bytes:
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, list):
        kind = 8 if isinstance(value[0], str) else 5
        parts = [text(one) if kind == 8 else struct.pack("<i", one) for one in value]
        return text(key) + struct.pack("<IIQ", 9, kind, len(value)) + b"".join(parts)
    letter, kind = _LETTERS[type(value)]
    return text(key) + struct.pack(f"<I{letter}", kind, value)


def info(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, offset)


def as_q8(values: np.ndarray) -> bytes:
    """32 values a block, by their largest."""
    blocks = values.reshape(-1, 32)
    scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float16)
    numbers = np.rint(blocks / np.maximum(scale.astype(np.float32), 1e-9)).astype(np.int8)
    return b"".join(s.tobytes() + n.tobytes() for s, n in zip(scale, numbers, strict=True))


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Path:
    """Matrices whose rows are multiples of 32 are stored as Q8_0, all else as float32."""
    infos, values = b"", b""
    for name, tensor in tensors.items():
        eighths = tensor.ndim == 2 and tensor.shape[1] % 32 == 0
        infos += info(name, tensor.shape, 8 if eighths else 0, len(values))
        values += as_q8(tensor) if eighths else tensor.astype("<f4").tobytes()
        values += bytes(-len(values) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(entry(key, value) for key, value in metadata.items()) + infos
    path.write_bytes(head + bytes(-len(head) % 32) + values)
    return path


def metadata_of(template: str = TEMPLATE) -> dict[str, Any]:
    names = {
        "block_count": "num_hidden_layers",
        "context_length": "max_position_embeddings",
        "embedding_length": "hidden_size",
        "feed_forward_length": "intermediate_size",
        "attention.head_count": "num_attention_heads",
        "attention.head_count_kv": "num_key_value_heads",
    }
    own = {f"llama.{theirs}": SHAPE[ours] for theirs, ours in names.items()}
    own |= {"llama.attention.layer_norm_rms_epsilon": 1e-6, "llama.rope.freq_base": 5000.0}
    kinds = [3 if token in MARKS else 1 for token in TOKENS]
    tokenizer = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": TOKENS,
        "token_type": kinds,
        "merges": [" ".join(merge) for merge in MERGES],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "padding_token_id": 2,
        "add_space_prefix": False,
    }
    named = {f"tokenizer.ggml.{name}": value for name, value in tokenizer.items()}
    return {"general.architecture": "llama", **own, **named, "tokenizer.chat_template": template}


_THEIRS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    """What llama.cpp's converter writes of a tiny llama, its rows of queries and keys reordered."""
    network = LlamaForCausalLM.from_pretrained(folder)
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    found = {"token_embd.weight": state["model.embed_tokens.weight"]}
    found["output_norm.weight"] = state["model.norm.weight"]
    if not network.config.tie_word_embeddings:
        found["output.weight"] = state["lm_head.weight"]
    for layer in range(SHAPE["num_hidden_layers"]):
        for ours, theirs in _THEIRS.items():
            tensor = state[f"model.layers.{layer}.{ours}.weight"]
            if theirs in ("attn_q", "attn_k"):
                heads = SHAPE["num_attention_heads" if theirs == "attn_q" else "num_key_value_heads"]
                rows, columns = tensor.shape
                halves = tensor.reshape(heads, 2, rows // heads // 2, columns)
                tensor = halves.swapaxes(1, 2).reshape(rows, columns)
            found[f"blk.{layer}.{theirs}.weight"] = tensor
    return found
