"""A Whisper in CTranslate2's layout: the very values that were written, once, and no file believed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration

from retrainer.convert.whisper import check_whisper, converted
from retrainer.errors import UserError
from retrainer.formats.ctranslate2 import read_contents, read_values
from retrainer.services import weights
from retrainer.settings import Backbone
from tests.whispers import as_ctranslate2, text, tiny_whisper, variable, variables_of, write_file

Variables = dict[str, Any]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def written(whisper: Path) -> Variables:
    return variables_of(whisper)


@pytest.fixture
def given(whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its directory in CTranslate2's layout, in a project of its own."""
    monkeypatch.chdir(tmp_path)
    return as_ctranslate2(whisper, tmp_path / "given", suppressed=(3, 4))


def test_its_values_are_those_of_transformers_bit_for_bit(whisper: Path, given: Path) -> None:
    backbone = weights.pin(Backbone(weights=str(given)), Path(".run/weights.json"))
    found = weights.fetch(backbone)
    assert isinstance(found, Path) and found.name == f"whisper-{backbone.weights_sha256}"
    theirs = WhisperForConditionalGeneration.from_pretrained(whisper, dtype=torch.float16)
    named = {name: tensor for name, tensor in theirs.state_dict().items() if name != "proj_out.weight"}
    ours = load_file(found / "model.safetensors")
    assert ours.keys() == named.keys()
    assert all(torch.equal(ours[name], named[name]) for name in named)
    again = WhisperForConditionalGeneration.from_pretrained(found, dtype=torch.float16)
    said = {"input_features": torch.randn(1, 80, 200).half(), "decoder_input_ids": torch.tensor([[1, 2]])}
    with torch.no_grad():
        assert torch.equal(again(**said).logits, theirs(**said).logits)
    assert again.config.suppress_tokens == [3, 4]


def test_it_is_converted_once_and_again_where_what_is_kept_was_altered(given: Path) -> None:
    backbone = weights.pin(Backbone(weights="./given"), Path(".run/weights.json"))
    first = weights.fetch(backbone)
    assert isinstance(first, Path)
    made = (first / "config.json").stat().st_mtime_ns
    assert weights.fetch(backbone) == first and (first / "config.json").stat().st_mtime_ns == made
    whole = (first / "config.json").read_text()
    (first / "config.json").write_text("{}")
    assert weights.fetch(backbone) == first and (first / "config.json").read_text() == whole
    file = given / "model.bin"
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"has sha256 .* but backbone\.weights_sha256 is"):
        weights.fetch(backbone)


def test_a_model_that_is_no_whisper_of_this_size_is_refused(given: Path, written: Variables) -> None:
    bias = "encoder/layer_0/self_attention/linear_0/bias"
    layer = "decoder/layer_0/ffn/linear_1/weight"
    quantised = {layer: np.zeros((16, 24), np.int8)}
    cases: list[tuple[Variables, dict[str, Any], str]] = [
        ({}, {"specification": "TransformerSpec"}, "is a TransformerSpec of revision 3; of CTranslate2's"),
        ({}, {"revision": 4}, "of revision 4"),
        ({}, {"aliases": {}}, "writes by another table than it reads by"),
        ({"decoder/gate": np.int8(0)}, {}, "has decoder/gate, which no Whisper has"),
        ({layer: None}, {}, f"lacks {layer}"),
        ({layer: np.zeros((16, 25), np.float16)}, {}, r"has the shape \[16, 25\], needed is \[16, 24\]"),
        (quantised, {}, "is quantised to int8, which cannot be trained on"),
        ({bias: np.ones(48, np.float16)}, {}, "has a bias of keys"),
        ({"decoder/activation": np.int8(0)}, {}, "decoder/activation is 0, and of a Whisper 3"),
        ({"encoder/num_heads": np.int16(0)}, {}, "encoder/num_heads is 0"),
        ({"decoder/num_heads": None}, {}, "decoder/num_heads is no whole number"),
        ({"encoder/conv1/weight": np.zeros((0, 80, 3), np.float16)}, {}, "lacks encoder/conv1/weight of 3"),
    ]
    for changed, how, said in cases:
        variables = {name: value for name, value in (written | changed).items() if value is not None}
        write_file(given / "model.bin", variables, **how)
        with pytest.raises(UserError, match=rf"model\.bin.*{said}") as refused:
            check_whisper(given)
            converted(given, "0" * 64, Path("cache"))
        assert "\n" not in str(refused.value)
    assert not list(Path("cache").iterdir())


def head(**changes: Any) -> bytes:
    said = {"version": 6, "variables": 1} | changes
    return struct.pack("<I", said["version"]) + text("WhisperSpec") + struct.pack("<II", 3, said["variables"])


ONE = np.zeros(2, np.float32)
NONE = struct.pack("<I", 0)
HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "ends 4 bytes too early"),
    "a pickle": (b"\x80\x02}q\x00.", "begins with .*, where version 6 does"),
    "another version": (head(version=7), "begins with 7"),
    "no variable comes": (head(variables=2**32 - 1), "ends 2 bytes too early"),
    "a name without end": (head() + struct.pack("<H", 65_535), "a name of 65,534 letters"),
    "no name": (head() + struct.pack("<H", 0), "a name of -1 letters"),
    "a name without NUL": (head() + struct.pack("<H", 3) + b"abc", "a name that is no text"),
    "a name that moves the cursor": (head() + text("a\x1b[2J"), "a name that is no text"),
    "many axes": (head() + text("x") + b"\xff", "x has 255 axes"),
    "an unknown type": (head() + variable("x", ONE, kind=6), "x is of the unknown type 6"),
    "more bytes than it has": (
        head() + text("x") + struct.pack("<BIBI", 1, 2**30 - 1, 0, 2**32 - 4),
        "ends 4,294,967,292 bytes too early",
    ),
    "a shape of other bytes": (head() + variable("x", ONE, size=4), r"claims 4 bytes for float32 .* \[2\]"),
    "a shape that overflows": (
        head() + text("x") + struct.pack("<BIIIBI", 3, 2**31, 2**31, 4, 0, 0),
        "claims 0 bytes for float32",
    ),
    "twice the same": (head(variables=2) + 2 * variable("x", ONE), "x stands twice in it"),
    "cut short": (head() + variable("x", ONE)[:-1], "ends 1 bytes too early"),
    "no aliases": (head() + variable("x", ONE), "ends 4 bytes too early"),
    "an alias of nothing": (
        head() + variable("x", ONE) + struct.pack("<I", 1) + text("y") + text("z"),
        "its alias y of z cannot be",
    ),
    "more behind it": (head() + variable("x", ONE) + NONE + b"\0", "1 bytes follow its end"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_told_in_one_line_with_its_name(name: str, tmp_path: Path) -> None:
    content, said = HOSTILE[name]
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(UserError, match=rf"model\.bin is no whole model file of .*: .*{said}") as told:
        read_contents(tmp_path / "model.bin")
    assert "\n" not in str(told.value) and "\x1b" not in str(told.value)


def test_every_type_of_number_is_read(tmp_path: Path) -> None:
    values = {
        name: np.arange(6).reshape(2, 3).astype(name) for name in ("float32", "int8", "int32", "float16")
    }
    found = read_contents(write_file(tmp_path / "model.bin", values, aliases={}))
    for name, value in values.items():
        read = read_values(tmp_path / "model.bin", found.variables[name])
        assert read.numpy().dtype == value.dtype and np.array_equal(read.numpy(), value)
    halves = torch.tensor([1.5, -2.0, 3e38]).bfloat16()
    (tmp_path / "model.bin").write_bytes(
        head() + variable("x", halves.view(torch.int16).numpy(), kind=5) + NONE
    )
    read = read_values(tmp_path / "model.bin", read_contents(tmp_path / "model.bin").variables["x"])
    assert read.dtype == torch.bfloat16 and torch.equal(read, halves)


def test_what_lies_beside_the_model_must_be_its_own(given: Path) -> None:
    def refused(change: Callable[[], Any], said: str) -> None:
        change()
        with pytest.raises(UserError, match=said):
            converted(given, "0" * 64, Path("cache"))

    note, tokenizer = given / "config.json", given / "tokenizer.json"
    refused(lambda: note.write_text('{"suppress_ids": ["a"]}'), "is no config.json of CTranslate2")
    refused(lambda: note.write_text("[" * 100_000), "is no config.json of CTranslate2")
    note.write_text("{}")
    more = json.loads(tokenizer.read_text())
    more["model"]["vocab"]["c"] = 6
    refused(lambda: tokenizer.write_text(json.dumps(more)), "is not the tokenizer of this Whisper")
    refused(lambda: tokenizer.write_text("{"), "tokenizer.json cannot be read")
    refused(tokenizer.unlink, "has no tokenizer.json; put this Whisper's own there")
