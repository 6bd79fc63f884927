"""`use_me.py` of a registered model: the template of that name, with what this model reads and needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from retrainer.registry.served_code import pinned

USE_ME = "use_me.py"
_TEMPLATE = Path(__file__).with_name("use_me.py")
# What serving can import and use_me.py never does: kernels of a GPU, a bar in a terminal.
_NOT_NEEDED = {"triton", "tqdm"}
_COLUMNS = "COLUMNS: dict[str, tuple[str, str]] = "


class _Example(NamedTuple):
    """Of an input: two arguments, what a line of stdin holds, and what a row is in Python."""

    words: str
    line: str
    row: str


_TEXT = _Example('"a lovely day" "what a mess"', "a text", "a text")
_IMAGE = _Example("photo.jpg another.png", "a file's path", "an image's path or its encoded bytes")
_SOUND = _Example("one.wav another.flac", "a file's path", "a sound's path or its encoded bytes")
_SEVERAL = _Example(
    r'"first<TAB>second"', "values between tabs,", "a tuple of the values, or a dict by the columns' names"
)
_OBJECT = _Example(
    "'{\"column\": …}'", "a JSON object by the columns' names,", "a dict by the columns' names"
)


def use_me(columns: Mapping[str, tuple[str, str]], packages: set[str]) -> str:
    """The file's text. `columns`: what the model reads → its name in the data, and its type (a word of
    retrainer/formats/columns.py); `packages`: the names that serving imports."""
    example = _example([word for _, word in columns.values()])
    template = _TEMPLATE.read_text(encoding="utf-8")
    empty = f"{_COLUMNS}{{}}\n"
    assert template.count(empty) == 1
    text = template.replace(empty, f"{_COLUMNS}{dict(columns)!r}\n")
    words = {"packages": " ".join(pinned(packages - _NOT_NEEDED)), "example": example.words}
    for name, value in {**words, "line": example.line, "row": example.row}.items():
        text = text.replace(f"@{name}@", value)
    return text


def _example(words: list[str]) -> _Example:
    if not all(word in ("string", "image", "audio") for word in words):
        return _OBJECT
    if len(words) > 1:
        return _SEVERAL
    return {"image": _IMAGE, "audio": _SOUND}.get(words[0], _TEXT)
