"""Rows that are files: the images or sounds of a folder, or a single one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from retrainer.batch_prediction.columns import InputColumns
from retrainer.batch_prediction.windows import Row
from retrainer.data.sources._folders import IMAGE_SUFFIXES, is_junk
from retrainer.formats.audio import SUFFIXES as SOUND_SUFFIXES


def suffixes_of(columns: InputColumns) -> tuple[str, ...]:
    """The endings of the files that the model reads."""
    return tuple(IMAGE_SUFFIXES) if columns.words[columns.first] == "image" else SOUND_SUFFIXES


def has_files(folder: Path, columns: InputColumns) -> bool:
    """Whether there is a file that the model reads, however deep."""
    return any(_reads(columns, name) for _, name in _walk(folder))


def folder_rows(folder: Path, columns: InputColumns, passed_over: list[Any]) -> Iterator[Row]:
    """Every file that the model reads, in the order of names; the number of the others, and the first of
    them, are noted in `passed_over`."""
    title = folder.resolve().name
    for where, name in _walk(folder):
        place = Path(where, name).relative_to(folder).as_posix()
        if _reads(columns, name):
            yield file_row(Path(where, name), f"{title}/{place}", columns)
        else:
            passed_over[:] = passed_over[0] + 1, passed_over[1] or place


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Folder and name of every file, in the order of names, but for the junk of file managers."""
    for where, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not is_junk(PurePosixPath(name)))
        for name in sorted(name for name in names if not is_junk(PurePosixPath(name))):
            yield where, name


def _reads(columns: InputColumns, name: str) -> bool:
    return Path(name).suffix.lower() in suffixes_of(columns)


def file_row(file: Path, origin: str, columns: InputColumns) -> Row:
    """The row of one file, which is not read yet."""
    try:
        origin.encode()
    except UnicodeEncodeError:
        return Row(origin.encode(errors="replace").decode(), problem="its name is not UTF-8; rename it")
    size = file.stat().st_size if file.is_file() else 0
    return Row(origin, {columns.first: file}, size=size)
