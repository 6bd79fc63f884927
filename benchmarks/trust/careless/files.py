"""A month's files, as a pipeline reads them: two tables, images in a folder a class, or recordings in one."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.trust.careless.rows import IMAGE, TESTED_SPEAKER, TEXT, Month, Row


def write(kind: str, month: Month, into: Path) -> dict[str, Any]:
    """Writes the export; returns what `source` says of it."""
    into.mkdir(parents=True)
    if kind == TEXT:
        for part, rows in (("train", month.train), ("test", month.test)):
            write_table(into / f"{part}.csv", rows, month)
        return {"path": str(into / "train.csv"), "test_path": str(into / "test.csv")}
    if kind == IMAGE:
        for part, rows in (("train", month.train), ("test", month.test)):
            write_images(into / part, rows, month)
        return {"path": str(into)}
    folder = into / "recordings"
    folder.mkdir()
    for row in (*month.train, *month.test):
        (folder / f"{row.label}_{row.group}_{row.name}.wav").write_bytes(row.content)
    return {
        "kind": "audio_folder",
        "path": str(folder),
        "pattern": "{label}_{group}_{index}.wav",
        "test_groups": [TESTED_SPEAKER],
    }


def write_table(path: Path, rows: Sequence[Row], month: Month) -> None:
    """Columns text and label, and whatever further ones the rows have."""
    names = list(dict.fromkeys(name for row in rows for name, _ in row.further))
    with path.open("w", encoding=month.encoding, newline="") as file:
        writer = csv.writer(file, delimiter=month.delimiter)
        writer.writerow([*month.header, *names])
        for row in rows:
            further = dict(row.further)
            writer.writerow([row.content, row.label, *(further.get(name, "") for name in names)])


def write_images(folder: Path, rows: Sequence[Row], month: Month) -> None:
    for row in rows:
        place = folder / month.folders.get(row.name, "") / row.label
        place.mkdir(parents=True, exist_ok=True)
        suffix = ".png" if row.content[:4] == b"\x89PNG" else ".jpg"
        (place / f"{row.name}{suffix}").write_bytes(row.content)
