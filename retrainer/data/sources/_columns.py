"""From a file's own columns to ours: what the readers of csv, jsonl and parquet share.

A reader yields chunks: the numbers of its rows, and for each of our columns the values as they stood.
Everything here is shaping; whether a row is usable is decided later, by `retrainer.data.checks`.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa

from retrainer.errors import UserError, nearest
from retrainer.formats.dataset import IMAGE, SCHEMA
from retrainer.formats.files import canonical_json
from retrainer.settings import Source

Chunk = tuple[Sequence[int], dict[str, list[Any]]]
Reader = Callable[[Path, Source], Iterator[Chunk]]

# Our column → the setting that names the user's column.
SETTING = {
    "text": "text",
    "text_pair": "text_pair",
    "image": "image",
    "labels": "label",
    "group": "group",
    "time": "time",
    "id": "id",
}
# Before the name of a column of `source.metadata`, among our columns.
METADATA = "metadata:"
ROWS_PER_CHUNK = 10_000
# An Arrow array of bytes ends at 2 GiB: few rows at a time where a row may be a large photo.
IMAGES_PER_CHUNK = 100
MAX_IMAGE_BYTES = 256 * 2**20
# A text of the data has a few kilobytes. What is longer is another kind of file, or a quote never closed.
MAX_TEXT_CHARACTERS = 16 * 2**20
_COLUMNS_SHOWN = 20


def table_parts(path: str, setting: str, suffixes: tuple[str, ...]) -> list[Path]:
    """The file itself, or the files with these suffixes that lie directly in a folder, sorted by name."""
    place = Path(path)
    if place.is_file():
        return [place]
    parts = sorted(p for p in place.glob("*") if p.suffix.lower() in suffixes and p.is_file())
    if not parts:
        wanted = " or ".join(suffixes)
        state = f"{path} is no plain file" if place.exists() else f"there is no file {path}"
        state = f"no {wanted} file in the folder {path}" if place.is_dir() else state
        raise UserError(f"{setting}: {state}; set {setting} to a {wanted} file or a folder of them")
    return parts


def given_parts(source: Source, suffixes: tuple[str, ...]) -> list[tuple[Path, bool]]:
    """Every file of the source, and whether it is part of the user's own test set."""
    parts = [(part, False) for part in table_parts(source.path, "source.path", suffixes)]
    if source.test_path:
        parts += [(part, True) for part in table_parts(source.test_path, "source.test_path", suffixes)]
    return parts


def pick_columns(source: Source, present: Sequence[str], file: str) -> dict[str, str]:
    """Our column → the file's, for those that are there.

    The label and a text or an image must be; so must every column that the settings name in another word
    than the default, and those of `source.metadata`, which stand here as `metadata:NAME`. Raises UserError
    with the columns of the file and the setting to change.
    """
    chosen = {}
    for ours, setting in SETTING.items():
        name = getattr(source, setting)
        if name in present:
            if present.count(name) > 1:
                raise UserError(f"{file}: two columns are named '{name}'; rename one of them")
            chosen[ours] = name
        elif name and name != Source.model_fields[setting].default:
            raise _absent(file, name, present, setting)
    if "labels" not in chosen:
        raise _absent(file, source.label, present, "label")
    if "text" not in chosen and "image" not in chosen:
        raise _absent(file, source.text, present, "text", f", nor '{source.image}' (source.image)")
    for name in source.metadata:
        if name not in present:
            raise UserError(f"source.metadata: {file} has no column '{name}'{nearest(name, present)}")
        if present.count(name) > 1:
            raise UserError(f"{file}: two columns are named '{name}'; rename one of them")
        chosen[METADATA + name] = name
    return chosen


def _absent(file: str, name: str, present: Sequence[str], setting: str, also: str = "") -> UserError:
    shown = ", ".join(f"'{p}'" for p in present[:_COLUMNS_SHOWN]) + (
        ", …" if len(present) > _COLUMNS_SHOWN else ""
    )
    close = get_close_matches(name.casefold(), [p.casefold() for p in present], n=1)
    like = next((f"'{p}', if that is it" for p in present if [p.casefold()] == close), "the right one")
    joined = len(present) == 1 and any(mark in present[0] for mark in ";\t|")
    hint = "; the columns must be separated by commas (in a .tsv by tabs)" if joined else ""
    return UserError(
        f"{file} has no column '{name}'{also}; its columns: {shown or 'none'}; "
        f"set source.{setting} to {like}{hint}"
    )


def read_tables(source: Source, suffixes: tuple[str, ...], reader: Reader) -> Iterator[pa.Table]:
    """Tables in our columns, from every file that `reader` reads."""
    for file, given_test in given_parts(source, suffixes):
        for rows, values in reader(file, source):
            yield _shape(rows, values, file, source, given_test)


def files_with_images(
    source: Source, suffixes: tuple[str, ...], image_names: Callable[[Path, Source], Iterable[str]]
) -> list[Path]:
    """Every file of the source and every image that they name."""
    found: dict[Path, None] = {}
    for file, _ in given_parts(source, suffixes):
        found[file] = None
        for name in image_names(file, source):
            try:
                found[_beside(file.parent, name)] = None
            except _Unfit as error:
                raise UserError(f"{file.name}: column '{source.image}' {error}") from None
    return list(found)


def _shape(
    rows: Sequence[int], values: dict[str, list[Any]], file: Path, source: Source, test: bool
) -> pa.Table:
    arrays: dict[str, pa.Array] = {}
    further: dict[str, list[str | None]] = {}
    for ours, column in values.items():
        if ours.startswith(METADATA):
            name = ours.removeprefix(METADATA)
            further[name] = _convert(column, as_text, rows, file, name)
            continue
        name = getattr(source, SETTING[ours])
        if ours == "image":
            arrays[ours] = image_array(_convert(column, _image_from(file.parent), rows, file, name))
            continue
        convert = _labels_by(source.label_separator) if ours == "labels" else as_text
        arrays[ours] = pa.array(_convert(column, convert, rows, file, name), SCHEMA[ours])
    if further:
        told = [dict(zip(further, row, strict=True)) for row in zip(*further.values(), strict=True)]
        arrays["metadata"] = pa.array([canonical_json(row).decode() for row in told], SCHEMA["metadata"])
    arrays["origin"] = pa.array([f"{file.name}:row {row}" for row in rows], pa.string())
    arrays["given_test"] = pa.array([test] * len(rows), pa.bool_())
    return pa.table(arrays)


class _Unfit(ValueError):
    """A value that cannot stand in its column; the message goes on after the column's name."""


def _convert(
    column: list[Any], convert: Callable[[Any], Any], rows: Sequence[int], file: Path, name: str
) -> list[Any]:
    converted = []
    for row, value in zip(rows, column, strict=True):
        try:
            converted.append(convert(value))
        except _Unfit as error:
            raise UserError(f"{file.name}:row {row}: column '{name}' {error}") from None
    return converted


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
            raise _Unfit("holds an infinite number; write a text, or leave it empty")
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise _Unfit(f"holds a {type(value).__name__}, not a text or a number")


def _whole_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Unfit("holds half a character (a lone surrogate); write the text out as UTF-8") from None
    return value


def _labels_by(separator: str) -> Callable[[Any], list[str] | None]:
    """One label or several as a list; None where the row says nothing, [] where it says 'no label'."""

    def labels(value: Any) -> list[str] | None:
        if isinstance(value, str):
            _whole_text(value)
            parts = value.split(separator) if separator else [value]
            return [part for part in parts if part.strip()]
        if isinstance(value, list | tuple):
            inner = [as_text(item) for item in value]
            return [part for part in inner if part is not None]
        if isinstance(value, float) and value == value and not value.is_integer():
            raise _Unfit(f"holds {value!r}, a number with a fraction; a label is a word or a whole number")
        text = as_text(value)
        return None if text is None else [text]

    return labels


def _image_from(folder: Path) -> Callable[[Any], bytes | None]:
    """Encoded bytes as they are, or read from the path that the row names inside `folder`."""

    def image(value: Any) -> bytes | None:
        if value is None or value == "":
            return None
        if isinstance(value, bytes):
            return value
        if isinstance(value, dict):
            if value.get("bytes") is None and value.get("path"):
                raise _Unfit("has a path and no bytes; write the bytes, or the path as a plain text")
            return image(value.get("bytes"))
        if isinstance(value, str):
            return _beside(folder, value).read_bytes()
        raise _Unfit(f"holds a {type(value).__name__}, not image bytes or the path of an image")

    return image


def _beside(folder: Path, name: str) -> Path:
    """The image file `name` inside `folder`; a path or a link that leads out of the folder is refused."""
    try:
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve())
        size = path.stat().st_size if inside and path.is_file() else -1
    except (OSError, ValueError, RuntimeError):  # the last: links that lead to each other
        raise _Unfit(f"holds {name[:100]!r}, which is no path of an image") from None
    if not inside:
        raise _Unfit(f"names '{name}', outside the folder of the file; copy the images beside it")
    if size < 0:
        raise _Unfit(f"names '{name}', and there is no such file beside it; put it there or remove the row")
    if size > MAX_IMAGE_BYTES:
        raise _Unfit(f"names '{name}', which is larger than {MAX_IMAGE_BYTES // 2**20} MiB")
    return path


def image_array(images: list[bytes | None]) -> pa.Array:
    """Encoded images as an array of IMAGE structs, null where there is none."""
    encoded = pa.array(images, pa.binary())
    return pa.StructArray.from_arrays(
        [encoded, pa.nulls(len(images), pa.string())], fields=list(IMAGE), mask=encoded.is_null()
    )
