"""Sources written for a test, and the rows that come of them: what the tests of reading share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retrainer.data.ingest import ingest
from retrainer.data.sources._png import grey_png
from retrainer.formats.dataset import Dataset
from retrainer.settings import Source


def png(shade: int) -> bytes:
    return grey_png(np.full((4, 4), shade, np.uint8))


def rows_of(raw: Path, split: str = "all") -> list[dict]:
    return Dataset(raw).split(split).to_pylist()


def read(tmp_path: Path, split: str = "all", **source) -> list[dict]:
    ingest(Source(**source), tmp_path / "raw")
    return rows_of(tmp_path / "raw", split)


def written(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


PHOTOS = {"cat/1.png": png(1), "cat/deep/2.png": png(2), "dog/1.png": png(3)}


def as_directory(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        written(folder / "photos" / name, data)
    return folder / "photos"
