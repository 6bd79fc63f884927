"""From a file's own columns to ours: what the readers of csv, jsonl and parquet share.

A reader yields chunks: the numbers of its rows, and for each of our columns the values as they stood.
Everything here is shaping; whether a row is usable is decided later, by `retrainer.data.checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.data.sources._splits import NONE, TEST, TRAIN, given_columns, refuse_two_tests, splits_of
from retrainer.data.sources._values import Unfit, as_text, beside, converter
from retrainer.errors import DataError, SettingError, UserError, nearest
from retrainer.formats.files import canonical_json
from retrainer.formats.names import FILE_TYPES
from retrainer.settings import Source

if TYPE_CHECKING:
    import pyarrow as pa

Chunk = tuple[Sequence[int], dict[str, list[Any]]]
Reader = Callable[[Path, Source], Iterator[Chunk]]

# What is read where the settings do not name the task's columns: labels, and a text or an image.
_DEFAULT = {"text": "string", "text_pair": "string?", "image": "image", "labels": "strings"}
_EVERYONES = {"group": "string?", "time": "string?", "id": "string?"}
# Of a column whose setting has another name than the column itself.
_SETTING = {"labels": "label"}
# Before the name of a column of `source.metadata`, among our columns.
METADATA = "metadata:"
ROWS_PER_CHUNK = 10_000
# An Arrow array of bytes ends at 2 GiB: few rows at a time where a row may be a large photo.
FILES_PER_CHUNK = 100
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
        raise SettingError(f"{setting}: {state}; set {setting} to a {wanted} file or a folder of them")
    return parts


def given_parts(source: Source, suffixes: tuple[str, ...]) -> list[tuple[Path, str]]:
    """Every file of the source, and the split that it is given for: of a folder, by the files' names."""
    files = table_parts(source.path, "source.path", suffixes)
    folder = Path(source.path).is_dir()
    splits = splits_of({part.stem for part in files}, Path(source.path).name, source) if folder else {}
    if source.validation not in ("", NONE) and not splits:
        raise SettingError(
            f"source.validation: {source.validation} is looked for beside training tables in a folder, and"
            f" {source.path} is none with a table train; name that folder in source.path"
        )
    refuse_two_tests(splits.values(), Path(source.path).name, source)
    parts = [(part, splits.get(part.stem, TRAIN)) for part in files]
    if source.test_path:
        parts += [(part, TEST) for part in table_parts(source.test_path, "source.test_path", suffixes)]
    return parts


def words_of(source: Source) -> dict[str, str]:
    """Our column → the word of its type, for all that may be read."""
    return {name: word.rstrip("?") for name, word in ((source.columns or _DEFAULT) | _EVERYONES).items()}


def setting_of(ours: str) -> str:
    """The setting that names the user's column."""
    return _SETTING.get(ours, ours)


def name_of(source: Source, ours: str) -> str:
    """The user's name of our column: a key of `source`, or else the column's own name."""
    setting = setting_of(ours)
    return str(getattr(source, setting) if setting in Source.model_fields else source.options.get(ours, ours))


def source_names(source: Source, present: Iterable[str]) -> dict[str, str]:
    """Of the task's columns among `present`, those that the user's data calls by another name → that name."""
    named = {ours: name_of(source, ours) for ours in present if ours in (source.columns or _DEFAULT)}
    return {ours: name for ours, name in named.items() if name and name not in (ours, setting_of(ours))}


def encoded_names(source: Source) -> list[str]:
    """Our columns that hold files: images, sounds."""
    return [ours for ours, word in words_of(source).items() if word in FILE_TYPES]


def rows_per_chunk(source: Source, chosen: Iterable[str]) -> int:
    return FILES_PER_CHUNK if set(chosen) & set(encoded_names(source)) else ROWS_PER_CHUNK


def pick_columns(source: Source, present: Sequence[str], file: str) -> dict[str, str]:
    """Our column → the file's, for those that are there.

    What the task needs must be there (without `source.columns`: the label and a text or an image); so must
    every column that the settings name in another word than the default, and those of `source.metadata`,
    which stand here as `metadata:NAME`. Raises UserError with the columns of the file and the setting to
    change.
    """
    chosen = {}
    for ours in words_of(source):
        name, setting = name_of(source, ours), setting_of(ours)
        default = Source.model_fields[setting].default if setting in Source.model_fields else ours
        if name in present:
            if present.count(name) > 1:
                raise DataError(f"{file}: two columns are named '{name}'; rename one of them")
            chosen[ours] = name
        elif name and name != default:
            raise _absent(file, name, present, setting)
    _require_needed(source, chosen, present, file)
    for name in source.metadata:
        if name not in present:
            raise SettingError(f"source.metadata: {file} has no column '{name}'{nearest(name, present)}")
        if present.count(name) > 1:
            raise DataError(f"{file}: two columns are named '{name}'; rename one of them")
        chosen[METADATA + name] = name
    return chosen


def needed_columns(source: Source) -> list[str]:
    """Our columns that must be there; without `source.columns` it is the labels (and a text or an image)."""
    return [ours for ours, word in source.columns.items() if not word.endswith("?")] or ["labels"]


def _require_needed(source: Source, chosen: dict[str, str], present: Sequence[str], file: str) -> None:
    for ours in needed_columns(source):
        if ours not in chosen:
            raise _absent(file, name_of(source, ours), present, setting_of(ours))
    if not source.columns and not {"text", "image"} & chosen.keys():
        raise _absent(file, source.text, present, "text", f", nor '{source.image}' (source.image)")


def _absent(file: str, name: str, present: Sequence[str], setting: str, also: str = "") -> UserError:
    shown = ", ".join(f"'{p}'" for p in present[:_COLUMNS_SHOWN]) + (
        ", …" if len(present) > _COLUMNS_SHOWN else ""
    )
    close = get_close_matches(name.casefold(), [p.casefold() for p in present], n=1)
    like = next((f"'{p}', if that is it" for p in present if [p.casefold()] == close), "the right one")
    joined = len(present) == 1 and any(mark in present[0] for mark in ";\t|")
    hint = "; the columns must be separated by commas (in a .tsv by tabs)" if joined else ""
    return DataError(
        f"{file} has no column '{name}'{also}; its columns: {shown or 'none'}; "
        f"set source.{setting} to {like}{hint}"
    )


def read_tables(source: Source, suffixes: tuple[str, ...], reader: Reader) -> Iterator[pa.Table]:
    """Tables in our columns, from every file that `reader` reads."""
    for file, split in given_parts(source, suffixes):
        for rows, values in reader(file, source):
            yield _shape(rows, values, file, source, split)


def files_with_media(
    source: Source, suffixes: tuple[str, ...], file_names: Callable[[Path, Source], Iterable[tuple[str, str]]]
) -> list[Path]:
    """Every file of the source and every image or sound that they name.

    `file_names` gives our column and the name of a file, for each row.
    """
    found: dict[Path, None] = {}
    for file, _ in given_parts(source, suffixes):
        found[file] = None
        for ours, name in file_names(file, source):
            try:
                found[beside(file.parent, name, words_of(source)[ours])] = None
            except Unfit as error:
                raise DataError(f"{file.name}: column '{name_of(source, ours)}' {error}") from None
    return list(found)


def _shape(
    rows: Sequence[int], values: dict[str, list[Any]], file: Path, source: Source, split: str
) -> pa.Table:
    import pyarrow as pa

    from retrainer.formats.columns import TYPES

    arrays: dict[str, pa.Array] = {}
    further: dict[str, list[str | None]] = {}
    words = words_of(source)
    for ours, column in values.items():
        if ours.startswith(METADATA):
            name = ours.removeprefix(METADATA)
            further[name] = _convert(column, as_text, rows, file, name)
            continue
        convert = converter(words[ours], file.parent, source.label_separator)
        values_here = _convert(column, convert, rows, file, name_of(source, ours))
        encoded = words[ours] in FILE_TYPES
        arrays[ours] = encoded_array(values_here) if encoded else pa.array(values_here, TYPES[words[ours]])
    if further:
        kept = [dict(zip(further, row, strict=True)) for row in zip(*further.values(), strict=True)]
        arrays["metadata"] = pa.array([canonical_json(row).decode() for row in kept], pa.string())
    arrays["origin"] = pa.array([f"{file.name}:row {row}" for row in rows], pa.string())
    return pa.table(arrays | given_columns([split] * len(rows)))


def _convert(
    column: list[Any], convert: Callable[[Any], Any], rows: Sequence[int], file: Path, name: str
) -> list[Any]:
    converted = []
    for row, value in zip(rows, column, strict=True):
        try:
            converted.append(convert(value))
        except Unfit as error:
            raise DataError(f"{file.name}:row {row}: column '{name}' {error}") from None
    return converted


def encoded_array(files: list[bytes | None]) -> pa.Array:
    """Encoded images or sounds as an array of ENCODED structs, null where there is none."""
    import pyarrow as pa

    from retrainer.formats.columns import ENCODED

    encoded = pa.array(files, pa.binary())
    return pa.StructArray.from_arrays(
        [encoded, pa.nulls(len(files), pa.string())], fields=list(ENCODED), mask=encoded.is_null()
    )
