"""Parallel texts: line n of one file translates line n of the other. UTF-8, plain or `.gz`.

    path: train.de, target_path: train.en            and `test_path`, `test_target_path` for your own test set
    path: a folder, text: de, target_text: en        with train.de, train.en, test.de, test.en, …: what begins
                                                     with `test` is the test set, `val`, `valid`, `validation`
                                                     or `dev` beside others the validation set, and the rest
                                                     the training rows

An empty line is a row without a text, and is dropped later with the reason.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from pydantic import Field

from retrainer.data.memory import budget_bytes
from retrainer.data.sources._columns import MAX_TEXT_CHARACTERS, ROWS_PER_CHUNK
from retrainer.data.sources._splits import (
    NONE,
    TEST,
    TRAIN,
    VALIDATION,
    given_columns,
    refuse_two_tests,
    split_of,
)
from retrainer.errors import DataError, SettingError, nearest
from retrainer.settings import Section, Source

if TYPE_CHECKING:
    import pyarrow as pa

_PACKED = ".gz"
# Texts shrink to a third or a quarter. What swells more than this is a bomb, if it is large at all.
MAX_SWELLING = 100
HARMLESS_BYTES = 64 * 2**20


class Options(Section):
    """Further keys of `source:`."""

    target_path: str = Field("", description="the file that translates `path`, line by line")
    test_target_path: str = Field("", description="the file that translates `test_path`")
    target_text: str = Field("target_text", description="in a folder: how the translations' names end")


class Pair(NamedTuple):
    """Two files whose lines belong together."""

    source: Path
    target: Path
    split: str


def files(source: Source) -> list[Path]:
    """Every file. Raises UserError for one that is missing, or has no partner."""
    return [path for pair in _pairs(source) for path in (pair.source, pair.target)]


def read(source: Source) -> Iterator[pa.Table]:
    """Tables of `text` and `target_text`. Raises UserError naming the file and line that cannot be read."""
    for pair in _pairs(source):
        rows: list[tuple[str, str]] = []
        number = 0
        for number, row in enumerate(_rows(pair), start=1):
            rows.append(row)
            if len(rows) == ROWS_PER_CHUNK:
                yield _table(rows, pair, number)
                rows = []
        if rows:
            yield _table(rows, pair, number)


def _pairs(source: Source) -> list[Pair]:
    options = Options.parse(source.options, "source")
    pairs = _given(source.path, options.target_path, source, TRAIN, "path")
    if source.test_path:
        refuse_two_tests((pair.split for pair in pairs), "source.path", source)
        pairs += _given(source.test_path, options.test_target_path, source, TEST, "test_path")
    return pairs


def _given(path: str, target: str, source: Source, split: str, key: str) -> list[Pair]:
    partner = "target_path" if key == "path" else "test_target_path"
    place = Path(path)
    if not path or not place.exists():
        state = f"there is no {path}" if path else "it is not set"
        raise SettingError(
            f"source.{key}: {state}; set it to a file of one text a line, and source.{partner} to its"
            " translation, or to a folder of such pairs"
        )
    if place.is_dir():
        return _in_folder(place, source, split)
    if "://" in target:
        raise SettingError(
            f"source.{partner}: {target} is not fetched; put both files into one folder, name it by"
            f" source.{key}, and the endings of the files by source.text and source.target_text"
        )
    if not target or not Path(target).is_file():
        state = f"there is no file {target}" if target else "it is not set"
        raise SettingError(f"source.{partner}: {state}; set it to the file that translates {place.name}")
    if source.validation not in ("", NONE):
        raise SettingError(
            f"source.validation: {place.name} is one file, and has no '{source.validation}' beside it; put"
            " all pairs into one folder, and name that by source.path"
        )
    return [Pair(place, Path(target), split)]


def _in_folder(folder: Path, source: Source, split: str) -> list[Pair]:
    """The pairs NAME.<text>[.gz] and NAME.<target_text>[.gz] in the order of names."""
    languages = source.text, Options.parse(source.options, "source").target_text
    found = [_by_name(folder, language) for language in languages]
    for language, named, key in zip(languages, found, ("text", "target_text"), strict=True):
        if not named:
            endings = sorted(
                {path.name.removesuffix(_PACKED).rpartition(".")[2] for path in folder.iterdir()}
            )
            raise SettingError(
                f"source.{key}: {folder.name} has no file that ends with .{language}"
                f"{nearest(language, endings)}; set it to the ending of one language's files"
                f" (here: {', '.join(endings[:20])})"
            )
    sources, targets = found
    if alone := sorted(sources.keys() ^ targets.keys()):
        path = (sources | targets)[alone[0]]
        raise DataError(
            f"{path.name} has no file beside it in the other language; add it, or remove this one"
        )
    splits = dict.fromkeys(sources, TEST) if split == TEST else _splits(list(sources), folder.name, source)
    return [Pair(sources[name], targets[name], splits[name]) for name in sorted(sources)]


def _splits(names: list[str], title: str, source: Source) -> dict[str, str]:
    """What stands before the languages' endings → its split; a validation set needs others to train on."""
    found = {name: TEST if name.lower().startswith(TEST) else split_of(name) or TRAIN for name in names}
    if source.validation and source.validation not in (NONE, *names):
        raise SettingError(
            f"source.validation: {title} has no '{source.validation}'{nearest(source.validation, names)}"
        )
    if source.validation or TRAIN not in found.values():
        found |= {name: TRAIN for name, split in found.items() if split == VALIDATION}
    return found | ({source.validation: VALIDATION} if source.validation in names else {})


def _by_name(folder: Path, language: str) -> dict[str, Path]:
    """What stands before the language's ending → the file."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(_PACKED).removesuffix(f".{language}")
        if not path.is_file() or name == path.name.removesuffix(_PACKED):
            continue
        if name in found:
            raise DataError(f"{found[name].name} and {path.name} are the same text; remove one of them")
        found[name] = path
    return found


def _rows(pair: Pair) -> Iterator[tuple[str, str]]:
    counts = [0, 0]
    for row in zip_longest(_lines(pair.source), _lines(pair.target)):
        for side, text in enumerate(row):
            counts[side] += text is not None
        if None not in row:
            yield row
    if counts[0] != counts[1]:
        raise DataError(
            f"{pair.source.name} has {counts[0]:,} lines and {pair.target.name} has {counts[1]:,}: line n of"
            " one must translate line n of the other; make them again from one list of pairs"
        )


def _lines(path: Path) -> Iterator[str]:
    """The lines without their ends; only a line feed ends one."""
    number = 0
    try:
        with _opened(path) as stream:
            limit = _most_bytes(path)
            for number, line in enumerate(
                iter(lambda: stream.readline(4 * MAX_TEXT_CHARACTERS), b""), start=1
            ):
                limit -= len(line)
                if len(line) == 4 * MAX_TEXT_CHARACTERS or limit < 0:
                    raise DataError(
                        f"{path.name}: line {number} is too long, or the file unpacks to more than is"
                        " sensible; give one text a line"
                    )
                yield _text(line, path, number)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name}: it cannot be read after line {number}: {error}") from None


def _opened(path: Path) -> gzip.GzipFile | BinaryIO:
    return gzip.open(path, "rb") if path.name.endswith(_PACKED) else path.open("rb")


def _most_bytes(path: Path) -> float:
    """That the file may unpack to."""
    size = path.stat().st_size
    if not path.name.endswith(_PACKED):
        return float("inf")
    return min(budget_bytes(), max(HARMLESS_BYTES, MAX_SWELLING * size))


def _text(line: bytes, path: Path, number: int) -> str:
    try:
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path.name}: not UTF-8 text in line {number}; save it as UTF-8") from None
    if "\0" in text:
        raise DataError(f"{path.name}: line {number} has a NUL character; save the file as UTF-8 text")
    return text


def _table(rows: list[tuple[str, str]], pair: Pair, last: int) -> pa.Table:
    """Rows that end with line `last`."""
    import pyarrow as pa

    texts, targets = zip(*rows, strict=True)
    first = last - len(rows) + 1
    return pa.table(
        {
            "text": pa.array(texts, pa.string()),
            "target_text": pa.array(targets, pa.string()),
            "origin": pa.array([f"{pair.source.name}:line {n}" for n in range(first, last + 1)], pa.string()),
            **given_columns([pair.split] * len(rows)),
        }
    )
