"""`use_me.py` of a registered model: what is written into it, what it reads, and its errors in one line.

That it answers as the model does, tests/test_same_answers.py and tests/test_served_text.py ask it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from retrainer.registry import served_code
from retrainer.registry.hand_over import use_me

Columns = Mapping[str, tuple[str, str]]
TEXT = {"text": ("review", "string")}
PAIR = TEXT | {"text_pair": ("answer", "string")}
IMAGE = {"image": ("photo", "image")}
NUMBERS = {"age": ('how "old"\\', "number"), "words": ("tags\n", "strings")}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Columns], Any]:
    """The file for these columns, imported."""

    def make(columns: Columns) -> Any:
        file = tmp_path / "use_me.py"
        file.write_text(use_me(columns, {"numpy"}), encoding="utf-8")
        spec = spec_from_file_location(f"use_me_{len(columns)}", file)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return make


@pytest.mark.parametrize(
    ("family", "task", "needed"),
    [
        ("mlp", "image_classification", {"pillow"}),
        ("timm", "image_classification", {"pillow", "timm"}),
        ("transformers", "text_classification", {"tokenizers", "transformers"}),
        ("encoder_decoder", "translation", {"tokenizers"}),
        ("speech_conv", "audio_classification", {"soundfile"}),
    ],
)
def test_its_first_lines_name_the_packages_and_no_more(family: str, task: str, needed: set[str]) -> None:
    text = use_me(TEXT, served_code.needed(family, task)[1])
    line = text.splitlines()[2]
    assert (
        line.startswith("    pip install ")
        and f'PACKAGES = "{line.removeprefix("    pip install ")}"' in text
    )
    names = {word.partition("==")[0] for word in line.split()[2:]}
    assert names == {"numpy", "psutil", "pyarrow", "pydantic", "safetensors", "torch"} | needed
    assert "@" not in text.partition('"""\n\nfrom')[0]


@pytest.mark.parametrize("columns", [TEXT, PAIR, IMAGE, NUMBERS])
def test_it_knows_the_columns_whatever_they_are_called(
    written: Callable[[Columns], Any], columns: Columns
) -> None:
    assert columns == written(columns).COLUMNS


def test_a_row_is_a_value_a_tuple_or_a_mapping(written: Callable[[Columns], Any], tmp_path: Path) -> None:
    one, two, image, numbers = (written(columns) for columns in (TEXT, PAIR, IMAGE, NUMBERS))
    for row in ("a\tb", ("a\tb",), {"review": "a\tb"}, {"text": "a\tb", "more": 1}):
        assert one.values_of(row, 0) == {"text": "a\tb"}
    assert one.values_of(one.row_of("a\tb", 0), 0) == {"text": "a\tb"}
    assert two.values_of(two.row_of("a\tb\tc", 0), 0) == {"text": "a", "text_pair": "b\tc"}
    (tmp_path / "one.png").write_bytes(b"content")
    for row in (str(tmp_path / "one.png"), tmp_path / "one.png", b"content", {"photo": b"content"}):
        assert image.values_of(row, 0) == {"image": {"bytes": b"content", "path": None}}
    line = json.dumps({"age": 3, "tags\n": ["a"]})
    assert numbers.values_of(numbers.row_of(line, 0), 0) == {"age": 3, "words": ["a"]}


def test_a_wrong_row_is_named(written: Callable[[Columns], Any]) -> None:
    two, image, numbers = (written(columns) for columns in (PAIR, IMAGE, NUMBERS))
    for module, row, reason in (
        (two, "alone", "row 7: 'answer' is missing"),
        (two, {"review": "a"}, "row 7: 'answer' is missing"),
        (two, ("a", "b", "c"), "row 7: 3 values, and the model reads 2"),
        (two, ("a", 5), "row 7: 'answer' is int, and the model reads a string"),
        (image, "absent.png", "row 7: 'photo' is no file that can be read"),
    ):
        with pytest.raises(ValueError, match=f"^{reason}"):
            module.values_of(row, 7)
    for line in ("no JSON", "[1]"):
        with pytest.raises(ValueError, match=r"^row 7: .*JSON"):
            numbers.row_of(line, 7)


def test_a_list_with_a_wrong_value_is_named(written: Callable[[Columns], Any]) -> None:
    module = written(NUMBERS)
    assert module.column_of([["a"], ["b"]], "words", 7).to_pylist() == [["a"], ["b"]]
    for column, wrong in (("words", ["a", 1]), ("age", 10**400)):
        good = [["a"]] if column == "words" else [1]
        with pytest.raises(ValueError, match=r"^row 8: "):
            module.column_of([*good, wrong, *good], column, 7)


def test_an_error_is_one_line(
    written: Callable[[Columns], Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = written(TEXT)
    told = []
    for error in (ModuleNotFoundError("No module named 'torch'", name="torch"), ValueError("a\nb")):

        def fails(_: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(module, "answers", fails)
        assert module.main(["a text"]) == 2
        told.append(capsys.readouterr().err)
    assert told == [
        f"use_me.py: the package torch is not installed; pip install {module.PACKAGES}\n",
        "use_me.py: a b\n",
    ]
    assert module.main([]) == 2
    assert "pip install numpy==" in capsys.readouterr().out


def test_it_answers_by_no_other_retrainers_code(
    written: Callable[[Columns], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = written(TEXT)
    assert "retrainer" in sys.modules
    with pytest.raises(ValueError, match="the model brings its own code"):
        module.Model()
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.delitem(sys.modules, "retrainer")
    module.import_from(tmp_path / "code")
    assert sys.path[0] == str(tmp_path / "code")


def test_a_demanded_signature_is_not_passed_over(
    written: Callable[[Columns], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = written(TEXT)
    module.verify_signature(tmp_path)
    monkeypatch.setenv("RETRAINER_VERIFY_KEY", "-----BEGIN PUBLIC KEY-----")
    with pytest.raises(ValueError, match="this model is not signed"):
        module.verify_signature(tmp_path)
    (tmp_path / "model.sig").touch()
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install model-signing"):
        module.verify_signature(tmp_path)
