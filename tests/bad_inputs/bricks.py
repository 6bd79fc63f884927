"""Inputs that people really give, wrong in one way each: how they are made, and what must be said of them.

A maker writes its input below a folder and returns what names it: a section `source` (`ingest`,
`preprocess`) or the text of a recipe (`resolve`, `train`).
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Door = Literal["ingest", "preprocess", "resolve", "train"]
Maker = Callable[[Path], Any]


@dataclass(frozen=True)
class Case:
    """`says` is a pattern in the one line on stderr; `door` is the command that prints it.

    `caps` lowers limits of the archives, where a real excess would take minutes to make.
    """

    make: Maker
    says: str
    door: Door = "ingest"
    caps: Mapping[str, int] = field(default_factory=dict)


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def file(name: str, content: str | bytes | Callable[[], bytes], **source: Any) -> Maker:
    return lambda folder: {
        "path": str(written(folder / name, content() if callable(content) else content)),
        **source,
    }


def noise(seed: int, shape: tuple[int, ...] = (12, 12), kind: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, shape, kind)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(seed: int) -> bytes:
    return encoded(Image.fromarray(noise(seed)), "PNG")


def photos(rows: int = 40) -> dict[str, bytes]:
    """So many sound images in two classes."""
    return {f"{'cat' if n % 2 else 'dog'}/{n}.png": png(n) for n in range(rows)}


def zip_of(files: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data, method)
    return buffer.getvalue()


def tar_of(files: Iterable[tuple[str, bytes]], *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info)
    return buffer.getvalue()


def member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def image_folder(folder: Path, files: dict[str, bytes]) -> dict[str, str]:
    for name, data in files.items():
        written(folder / "photos" / name, data)
    return {"path": str(folder / "photos")}


def table(rows: int = 40) -> list[Any]:
    """Rows of text in two classes."""
    words = np.random.default_rng(0).integers(0, 10**9, (rows, 6))
    return [{"text": " ".join(map(str, words[n])), "label": "ab"[n % 2]} for n in range(rows)]


def jsonl(rows: list[Any]) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def csv(rows: list[dict[str, str]]) -> str:
    return "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows)


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()
