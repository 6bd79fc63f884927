"""A language model of the llama architecture in GGUF, llama.cpp's format, in the layout of Hugging Face.

Its blocks of small numbers become float32 once. llama.cpp keeps the rows of queries and keys in another order
(`LlamaModel.permute`, convert_hf_to_gguf.py); transformers undoes that as it is done here
(`LlamaTensorProcessor`, modeling_gguf_pytorch_utils.py, 5.23).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retrainer.convert.gguf_tokenizer import require_tokenizer, write_tokenizer
from retrainer.convert.kept import kept
from retrainer.errors import ModelError
from retrainer.formats.files import write_json
from retrainer.formats.gguf import Contents, read_contents, read_values

if TYPE_CHECKING:
    from torch import Tensor

_KIND = "converted_llama"
_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"
# Numbers that tell the architecture: by llama.cpp's name and by transformers'.
_COUNTS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
_NORM, _ROPE = "attention.layer_norm_rms_epsilon", "rope.freq_base"
_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_MOST = 1 << 24


class _Part(NamedTuple):
    """A tensor, by transformers' name, in its shape there. `heads`: of rows that llama.cpp has reordered."""

    name: str
    shape: tuple[int, ...]
    heads: int = 0


def check_llama(path: Path) -> None:
    """Raises UserError where the file, of which no weight is read, is damaged or no such model."""
    _read(path)


def converted_llama(path: Path, sha256: str, cache: Path) -> Path:
    """The directory in Hugging Face layout, made once: `sha256` is that of the file.

    What lies in `cache` is used where its hashes hold. Raises UserError for a file that cannot be used.
    """
    return kept(cache / f"llama-{sha256}", _KIND, lambda into: _write(path, *_read(path), into))


def _read(path: Path) -> tuple[Contents, dict[str, Any]]:
    found = read_contents(path)
    architecture = found.metadata.get("general.architecture")
    if architecture != "llama":
        raise ModelError(
            f"{path} is of the architecture {architecture!r}, and of GGUF files llama alone is read"
        )
    config = _config(path, found)
    _check(path, found, config)
    require_tokenizer(path, found.metadata, config["vocab_size"])
    return found, config


def _config(path: Path, found: Contents) -> dict[str, Any]:
    """As of transformers' LlamaConfig. Raises ModelError where a number is missing or cannot be."""
    shape = {ours: _count(path, found, name) for name, ours in _COUNTS.items()}
    heads = shape["num_attention_heads"]
    pairs = _count(path, found, "attention.head_count_kv", heads)
    width = _count(path, found, "rope.dimension_count", shape["hidden_size"] // heads)
    if shape["hidden_size"] % heads or heads % pairs or width * heads != shape["hidden_size"]:
        raise ModelError(
            f"{path}: {heads} heads, {pairs} of keys, each {width} wide, do not make a width of"
            f" {shape['hidden_size']}; only such models are read"
        )
    scaled = [key for key in found.metadata if key.startswith("llama.rope.scaling.")]
    if scaled or "rope_freqs.weight" in found.tensors:
        raise ModelError(
            f"{path} stretches its positions (rope scaling), which is not read; take safetensors"
        )
    embedding = found.tensors.get(_EMBEDDING)
    if embedding is None or len(embedding.shape) != 2:
        raise ModelError(f"{path} lacks {_EMBEDDING} of 2 axes; convert the model again")
    return shape | {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_key_value_heads": pairs,
        "head_dim": width,
        "vocab_size": embedding.shape[0],
        "rms_norm_eps": _real(path, found, _NORM, 0.0, 1e-2),
        "rope_theta": _real(path, found, _ROPE, 1.0, 1e9, 10_000.0),
        "tie_word_embeddings": _OUTPUT not in found.tensors,
        "attention_bias": False,
        "mlp_bias": False,
    }


def _count(path: Path, found: Contents, name: str, default: int | None = None) -> int:
    value = found.metadata.get(f"llama.{name}", default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _MOST:
        raise ModelError(f"{path}: llama.{name} is {value!r}, and must be a number above 0")
    return value


def _real(
    path: Path, found: Contents, name: str, low: float, high: float, default: float | None = None
) -> float:
    value = found.metadata.get(f"llama.{name}", default)
    if not isinstance(value, float) or not low < value < high:
        raise ModelError(f"{path}: llama.{name} is {value!r}, and must be between {low:g} and {high:g}")
    return float(f"{value:.7g}")  # a float32 on disk: 1e-05, not 9.999999747378752e-06


def _parts(config: dict[str, Any]) -> Iterator[tuple[str, _Part]]:
    """llama.cpp's name → the tensor, of a model of this size."""
    width, inner, rows = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, pairs = config["num_attention_heads"], config["num_key_value_heads"]
    keys = pairs * config["head_dim"]
    shapes: dict[str, tuple[tuple[int, ...], int]] = {
        **dict.fromkeys(("attn_norm", "ffn_norm"), ((width,), 0)),
        "attn_q": ((width, width), heads),
        "attn_k": ((keys, width), pairs),
        "attn_v": ((keys, width), 0),
        "attn_output": ((width, width), 0),
        **dict.fromkeys(("ffn_gate", "ffn_up"), ((inner, width), 0)),
        "ffn_down": ((width, inner), 0),
    }
    yield _EMBEDDING, _Part("model.embed_tokens.weight", (rows, width))
    yield "output_norm.weight", _Part("model.norm.weight", (width,))
    if not config["tie_word_embeddings"]:
        yield _OUTPUT, _Part("lm_head.weight", (rows, width))
    for layer in range(config["num_hidden_layers"]):
        for theirs, (shape, reordered) in shapes.items():
            name = f"model.layers.{layer}.{_LAYER[theirs]}.weight"
            yield f"blk.{layer}.{theirs}.weight", _Part(name, shape, reordered)


def _check(path: Path, found: Contents, config: dict[str, Any]) -> None:
    """Raises ModelError where a tensor is missing, unknown or misshapen."""
    if config["num_hidden_layers"] > len(found.tensors):
        raise ModelError(f"{path} lacks layers: llama.block_count is {config['num_hidden_layers']}")
    parts = dict(_parts(config))
    for name, part in parts.items():
        stored = found.tensors.get(name)
        if stored is None:
            raise ModelError(f"{path} lacks {name}; convert the model again")
        if stored.shape != part.shape:
            raise ModelError(
                f"{path}: {name} has the shape {list(stored.shape)}, needed is {list(part.shape)}"
            )
    if unknown := sorted(found.tensors.keys() - parts.keys()):
        raise ModelError(f"{path} has {unknown[0]}, which no llama of this kind has")


def _tensors(path: Path, found: Contents, config: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, part in _parts(config):
        values = read_values(path, found.tensors[name])
        if not values.isfinite().all():
            raise ModelError(f"{path}: {name} holds values that are no numbers; copy it again")
        if part.heads:  # of each head, pairs of rows side by side become two halves
            rows, columns = part.shape
            halves = values.view(part.heads, rows // part.heads // 2, 2, columns).transpose(1, 2)
            values = halves.reshape(rows, columns)
        yield part.name, values.contiguous()


def _write(path: Path, found: Contents, config: dict[str, Any], into: Path) -> None:
    from safetensors.torch import save_file

    save_file(dict(_tensors(path, found, config)), into / "model.safetensors", {"format": "pt"})
    marks = write_tokenizer(path, found.metadata, into)
    write_json(into / "config.json", config | marks)
