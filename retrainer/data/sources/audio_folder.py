"""Sound files and what is said in them: a folder, a .zip or a .tar[.gz|.xz], in one of three layouts.

    file names   `source.pattern`, as in "{label}_{group}_{id}.wav" or "{group}/{chapter}/{text}.flac"
    a table      metadata.csv or .tsv (else the only table there): a column `path` or `file_name` of the sound
                 file beside it, and `text` (the transcript), `label`, `group`, …, by `source.target_text` …
    folders      <class>/<file>; deeper folders belong to their class

In a pattern `text` is the transcript, `label` the class, and `group` the speaker; other names are kept if
`source.metadata` has them.
Rows of the own test set: those of `source.test_path`, of a folder test/ (beside train/), or of the groups,
such as speakers, that `source.test_groups` names; of the own validation set: those of a folder val/, valid/,
validation/ or dev/ beside train/. One folder around everything is looked through.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.data.sources._columns import METADATA, name_of
from retrainer.data.sources._folders import Tree, inside, source_files, tree_of
from retrainer.data.sources._pieces import in_pieces
from retrainer.data.sources._splits import TEST, TRAIN, given_columns, refuse_two_tests, splits_of
from retrainer.errors import DataError, SettingError, nearest
from retrainer.formats.audio import SUFFIXES
from retrainer.formats.files import canonical_json
from retrainer.settings import Section, Source

if TYPE_CHECKING:
    import pyarrow as pa

_TABLES = (".csv", ".tsv")
_PATHS = ("path", "file_name", "audio")
_FILES_PER_CHUNK = 100
# A pattern's or a table's name → our column.
_OURS = {"text": "target_text", "label": "labels", "group": "group", "time": "time", "id": "id"}


class Options(Section):
    """Further keys of `source:` for this kind."""

    pattern: str = Field("", description='of file names, as in "{label}_{group}_{id}.wav"')
    spelling: dict[str, str] = Field({}, description="what a transcript in a file name or table stands for")
    piece_seconds: float = Field(
        0.0, ge=0, description="cut each recording into rows of so many seconds; 0: a recording is a row"
    )
    test_groups: tuple[str, ...] = Field((), description="groups, as speakers, that are the own test set")


@dataclass(frozen=True)
class _Row:
    """`values`: our column, or METADATA and a name → what the layout says of the file."""

    name: PurePosixPath
    values: dict[str, str]
    split: str = TRAIN


def files(source: Source) -> list[Path]:
    """The archives, or every file of the folders."""
    return [path for part, _ in _parts(source) for path in source_files(part)]


def labels_add_up(_: Source) -> bool:
    """A file in several class folders has the labels of them all, where a row may have several."""
    return True


def read(source: Source) -> Iterator[pa.Table]:
    """Tables of `audio`, `target_text` or `labels`, and the rest. Raises UserError naming file and cure."""
    own = {key: value for key, value in source.options.items() if key not in source.columns}
    options = Options.parse(own, "source")
    seen: set[str] = set()
    for part, given_test in _parts(source):
        tree = tree_of(part)
        rows = _rows(tree, part, options)
        if not given_test:
            refuse_two_tests((row.split for row in rows), tree.root.name, source)
        seen.update(row.values.get("group", "") for row in rows)
        for start in range(0, len(rows), _FILES_PER_CHUNK):
            table = _table(tree, rows[start : start + _FILES_PER_CHUNK], given_test, options)
            if options.piece_seconds:
                _refuse_transcripts(table, source)
                table = in_pieces(table, options.piece_seconds, "group" in source.columns)
            yield table
    if unknown := sorted(set(options.test_groups) - seen):
        raise SettingError(
            f"source.test_groups: no row is of the group '{unknown[0]}'{nearest(unknown[0], seen)}"
        )


def _refuse_transcripts(table: pa.Table, source: Source) -> None:
    """Raises SettingError where each piece would get the words of the whole recording."""
    if "target_text" in (source.columns or table.column_names):
        raise SettingError(
            "source.piece_seconds cuts recordings, and nobody knows which words of a transcript are in which"
            " piece; leave it out, or cut the recordings and their transcripts yourself"
        )


def _parts(source: Source) -> list[tuple[Source, bool]]:
    """The source's path and its test path, each as a source of its own, and whether it is the test."""
    parts = [(source.model_copy(update={"test_path": ""}), False)]
    if source.test_path:
        test = {"path": source.test_path, "test_path": "", "validation": ""}
        parts.append((source.model_copy(update=test), True))
    return parts


def _rows(tree: Tree, source: Source, options: Options) -> list[_Row]:
    sounds = [name for name in tree.entries if name.suffix.lower() in SUFFIXES]
    if not sounds:
        first = next(iter(tree.entries), "none")
        raise DataError(
            f"{tree.root.name} holds no sound file ({', '.join(SUFFIXES)}); its first file: {first}"
        )
    if options.pattern:
        return _by_pattern(sounds, source, options.pattern)
    if table := _table_of(tree):
        return _by_table(tree, table, sounds, source)
    return _by_folder(sounds, tree.root.name, source)


def _by_pattern(sounds: list[PurePosixPath], source: Source, pattern: str) -> list[_Row]:
    """A file whose name does not fit says nothing, and is left out later as a row without content."""
    expression, depth = _expression(pattern, _content(source)), pattern.count("/") + 1
    rows = []
    split_by = _splits_above([name.parts[:-depth] for name in sounds], source)
    for name in sounds:
        found = expression.fullmatch("/".join(name.parts[-depth:]))
        values = _ours(found.groupdict(), source) if found else {}
        splits = [split_by[part] for part in name.parts[:-depth] if part in split_by]
        rows.append(_Row(name, values, splits[0] if splits else TRAIN))
    if not any(row.values for row in rows):
        raise SettingError(f"source.pattern: {pattern} fits no file; the first one is {sounds[0]}")
    return rows


def _splits_above(folders: list[tuple[str, ...]], source: Source) -> dict[str, str]:
    """Folder above what a pattern reads → its split; a folder test/ is one without a train/ beside it too."""
    found = {part: TEST for above in folders for part in above if part.lower() == TEST}
    for depth in range(max(map(len, folders), default=0)):
        beside = {above[depth] for above in folders if len(above) > depth}
        found |= splits_of(beside, source.path, source)
    return found


def _content(source: Source) -> list[str]:
    """Names of what a row can be learned by: of speakers also their group."""
    return ["text", "label", *(["group"] if "group" in source.columns else [])]


def _expression(pattern: str, content: list[str]) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", pattern)
    names = parts[1::2]
    if not {*content} & {*names} or len(names) != len(set(names)):
        needed = " or ".join(f"{{{name}}}" for name in content)
        raise SettingError(
            f"source.pattern: {pattern} needs {needed}, and each name once;"
            ' as in "{label}_{group}_{id}.wav"'
        )
    if any(not name.isidentifier() for name in names):
        raise SettingError(f"source.pattern: {pattern}: a name in braces is a word of letters and digits")
    pieces = [f"(?P<{part}>[^/]+?)" if place % 2 else re.escape(part) for place, part in enumerate(parts)]
    return re.compile("".join(pieces))


def _ours(found: dict[str, str], source: Source) -> dict[str, str]:
    if missing := sorted(set(source.metadata) - set(found)):
        raise SettingError(
            f"source.metadata: no '{missing[0]}' is known of a file{nearest(missing[0], found)}"
        )
    values = {_OURS[name]: value for name, value in found.items() if name in _OURS}
    return values | {METADATA + name: found[name] for name in source.metadata}


def _table_of(tree: Tree) -> PurePosixPath | None:
    """The table that lies highest; of several there the one named metadata."""
    tables = [name for name in tree.entries if name.suffix.lower() in _TABLES]
    highest = min((len(name.parts) for name in tables), default=0)
    tables = [name for name in tables if len(name.parts) == highest]
    named = [name for name in tables if name.stem.lower() == "metadata"] or tables
    if len(named) > 1:
        raise DataError(
            f"{tree.root.name} holds {len(named)} tables, {named[0]} and others; name one metadata.csv"
        )
    return named[0] if named else None


def _by_table(tree: Tree, table: PurePosixPath, sounds: list[PurePosixPath], source: Source) -> list[_Row]:
    """A file that the table does not name says nothing, and is left out later as a row without content."""
    title = tree.title(table)
    records = _records(tree, table)
    header = [name.strip() for name in next(records, [])]
    path, columns = _columns(header, source, title)
    rows = []
    for number, record in enumerate(records, start=1):
        if len(record) != len(header):
            raise DataError(
                f"{title}:row {number}: {len(record)} fields where the header names {len(header)}"
            )
        fields = dict(zip(header, record, strict=True))
        sound = inside(table.parent, fields[path], f"{title}:row {number}")
        if sound not in tree:
            raise DataError(
                f"{title}:row {number}: there is no file {sound}; copy it there, or remove the row"
            )
        rows.append(_Row(sound, {ours: fields[name] for ours, name in columns.items()}))
    named = {row.name for row in rows}
    return rows + [_Row(sound, {}) for sound in sounds if sound not in named]


def _columns(header: list[str], source: Source, title: str) -> tuple[str, dict[str, str]]:
    """The column of the sound's file, and ours → the table's for those that are there."""
    path = source.options.get("audio") or next((name for name in _PATHS if name in header), "path")
    columns = {ours: name_of(source, ours) for ours in _OURS.values()}
    if columns["target_text"] not in header:
        columns["target_text"] = source.text
    columns = {ours: name for ours, name in columns.items() if name in header}
    missing = [name for name in (path, *source.metadata) if name not in header]
    if missing or not {_OURS[name] for name in _content(source)} & set(columns):
        wanted = missing[0] if missing else f"{source.text}' or '{source.label}"
        raise DataError(
            f"{title} has no column '{wanted}'; its columns: {', '.join(header) or 'none'};"
            " name yours in source.audio, source.target_text, source.label or source.metadata"
        )
    return path, columns | {METADATA + name: name for name in source.metadata}


def _records(tree: Tree, table: PurePosixPath) -> Iterator[list[str]]:
    """Its header and records; blank lines are none."""
    try:
        text = tree.read(table).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{tree.title(table)} is not UTF-8 text; save it as UTF-8") from None
    delimiter = "\t" if table.suffix.lower() == ".tsv" else ","
    try:
        yield from filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(f"{tree.title(table)}: {error}; is a quote opened and never closed?") from None


def _by_folder(sounds: list[PurePosixPath], title: str, source: Source) -> list[_Row]:
    skip = 0
    while all(len(name.parts) > skip + 2 for name in sounds) and len({n.parts[skip] for n in sounds}) == 1:
        skip += 1
    splits = splits_of({name.parts[skip] for name in sounds if len(name.parts) > skip + 1}, title, source)
    rows = []
    said = "group" if "group" in source.columns else "labels"  # a folder is a speaker, or a class
    for name in sounds:
        folders = name.parts[skip + bool(splits) : -1]
        values = {said: folders[0]} if folders else {}
        rows.append(_Row(name, values, splits.get(name.parts[skip], TRAIN)))
    return rows


def _table(tree: Tree, rows: list[_Row], given_test: bool, options: Options) -> pa.Table:
    import pyarrow as pa

    from retrainer.formats.columns import ENCODED, TYPES

    audio = [{"bytes": tree.read(row.name), "path": None} for row in rows]
    groups = set(options.test_groups)
    tests = [given_test or row.values.get("group") in groups for row in rows]
    splits = [TEST if test else row.split for test, row in zip(tests, rows, strict=True)]
    columns: dict[str, Any] = {
        "audio": pa.array(audio, ENCODED),
        "origin": pa.array([tree.title(row.name) for row in rows], pa.string()),
        **given_columns(splits),
    }
    named = {name for row in rows for name in row.values}
    for name in sorted(named & set(_OURS.values())):
        values = [row.values.get(name) for row in rows]
        if name == "target_text":
            values = [options.spelling.get(value, value) if value else value for value in values]
        lists = [[value] if value else None for value in values]
        columns[name] = (
            pa.array(lists, TYPES["strings"]) if name == "labels" else pa.array(values, pa.string())
        )
    further = [name for name in sorted(named) if name.startswith(METADATA)]
    if further:
        kept = [{name.removeprefix(METADATA): row.values.get(name) for name in further} for row in rows]
        columns["metadata"] = pa.array([canonical_json(row).decode() for row in kept], pa.string())
    return pa.table(columns)
