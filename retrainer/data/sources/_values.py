"""One value of a file → what a column holds, by the word of its type (`retrainer.formats.columns`)."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrainer.formats.names import CORNERS

MAX_IMAGE_BYTES = 256 * 2**20
# One file can hold the boxes of a hundred thousand images.
MAX_ANNOTATION_BYTES = 2 * 2**30


class Unfit(ValueError):
    """A value that cannot stand in its column; the message goes on after the column's name."""


def converter(word: str, folder: Path, separator: str) -> Callable[[Any], Any]:
    """The conversion of a value to the type that `word` means; what it cannot convert raises Unfit.

    Files are read from inside `folder`; a list that is written as one text is divided at `separator`.
    """
    conversions: dict[str, Callable[[Any], Any]] = {
        "string": as_text,
        "strings": _names_by(separator),
        "number": as_number,
        "numbers": as_numbers,
        "image": _file_from(folder, "image"),
        "audio": _file_from(folder, "audio"),
        "boxes": as_boxes,
        "mask": as_mask,
    }
    return conversions[word]


def as_text(value: Any) -> str | None:
    """A plain value as text: 7, 7.0 and '7' are all '7'; absent values and NaN are None."""
    if value is None:
        return None
    if isinstance(value, str):
        return _whole_text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if value != value:
            return None
        if math.isinf(value):
            raise Unfit("holds an infinite number; write a text, or leave it empty")
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise Unfit(f"holds a {type(value).__name__}, not a text or a number")


def _whole_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unfit("holds half a character (a lone surrogate); write the text out as UTF-8") from None
    return value


def as_number(value: Any) -> float | None:
    """A number, or one that is written as text; absent values, empty texts and NaN are None."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = (
            float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
        )
    except (ValueError, OverflowError):
        number = None
    if number is None or math.isinf(number):
        raise Unfit(f"holds {str(value)[:60]!r}, which is no finite number")
    return None if math.isnan(number) else number


def as_numbers(value: Any) -> list[float] | None:
    """A list of numbers, also one that is written as JSON; none of them may be absent."""
    given = _listed(value, "numbers, such as [1.5, 2]")
    if given is None:
        return None
    numbers = [as_number(item) for item in given]
    if None in numbers:
        raise Unfit("holds a list in which a number is absent")
    return [number for number in numbers if number is not None]


def as_boxes(value: Any) -> list[dict[str, Any]] | None:
    """Objects in an image, also written as JSON: a list of {"label", "left", "top", "right", "bottom"}."""
    wanted = 'boxes, such as [{"label": "cat", "left": 0, "top": 5, "right": 30, "bottom": 28}]'
    given = _listed(value, wanted)
    return None if given is None else [_box(item, wanted) for item in given]


def _box(item: Any, wanted: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise Unfit(f"holds {str(item)[:60]!r}, not one of {wanted}")
    label, corners = as_text(item.get("label")), {name: as_number(item.get(name)) for name in CORNERS}
    absent = [name for name, corner in corners.items() if corner is None]
    if absent or not label or label.isspace():
        raise Unfit(f"holds a box without '{absent[0] if absent else 'label'}'; write {wanted}")
    return {"label": label, **corners}


def as_mask(value: Any) -> dict[str, Any] | None:
    """A mask as this project writes it to Parquet: its encoded bytes, and its classes by their values."""
    if value is None:
        return None
    image = value.get("image") if isinstance(value, dict) else None
    data = image.get("bytes") if isinstance(image, dict) else image
    if (
        not isinstance(value, dict)
        or not isinstance(data, bytes)
        or not isinstance(value.get("classes"), list)
    ):
        raise Unfit(
            "holds no mask {image: bytes, classes: [names by value]}; masks that are files are read by"
            " source.kind: image_masks"
        )
    names = [None if name is None else as_text(name) for name in value["classes"]]
    return {"image": {"bytes": data, "path": None}, "classes": names}


def _listed(value: Any, wanted: str) -> list[Any] | None:
    """A list as it is, or one that is written as JSON; None where the row says nothing."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unfit(f"holds {value[:60]!r}; write {wanted}") from None
    if not isinstance(value, list | tuple):
        raise Unfit(f"holds a {type(value).__name__}; write {wanted}")
    return list(value)


def _names_by(separator: str) -> Callable[[Any], list[str] | None]:
    """One name or several as a list; None where the row says nothing, [] where it says 'no label'."""

    def names(value: Any) -> list[str] | None:
        if isinstance(value, str):
            _whole_text(value)
            parts = value.split(separator) if separator else [value]
            return [part for part in parts if part.strip()]
        if isinstance(value, list | tuple):
            inner = [as_text(item) for item in value]
            return [part for part in inner if part is not None]
        if isinstance(value, float) and value == value and not value.is_integer():
            raise Unfit(f"holds {value!r}, a number with a fraction; a label is a word or a whole number")
        text = as_text(value)
        return None if text is None else [text]

    return names


def _file_from(folder: Path, what: str) -> Callable[[Any], bytes | None]:
    """Encoded bytes as they are, or read from the path that the row names inside `folder`."""

    def content(value: Any) -> bytes | None:
        if value is None or value == "":
            return None
        if isinstance(value, bytes):
            return value
        if isinstance(value, dict):
            if value.get("bytes") is None and value.get("path"):
                raise Unfit("has a path and no bytes; write the bytes, or the path as a plain text")
            return content(value.get("bytes"))
        if isinstance(value, str):
            return beside(folder, value, what).read_bytes()
        raise Unfit(f"holds a {type(value).__name__}, not {what} bytes or the path of an {what}")

    return content


def beside(folder: Path, name: str, what: str) -> Path:
    """The file of this name inside `folder`, an image or audio (`what`).

    A path or a link that leads out of the folder is refused.
    """
    try:
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve())
        size = path.stat().st_size if inside and path.is_file() else -1
    except (OSError, ValueError, RuntimeError):  # the last: links that lead to each other
        raise Unfit(f"holds {name[:100]!r}, which is no path of an {what}") from None
    if not inside:
        raise Unfit(f"names '{name}', outside the folder of the file; copy it beside that")
    if size < 0:
        raise Unfit(f"names '{name}', and there is no such file beside it; put it there or remove the row")
    if size > MAX_IMAGE_BYTES:
        raise Unfit(f"names '{name}', which is larger than {MAX_IMAGE_BYTES // 2**20} MiB")
    return path
