"""Rows of Banking77, CIFAR-10 and FSDD as plain dictionaries, and real sources as they are."""

from __future__ import annotations

import csv
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks._runs import ROOT
from retrainer.data.ingest import ingest
from retrainer.formats.dataset import IMAGE, SCHEMA, write_dataset
from retrainer.resolve import resolve
from retrainer.settings import Source, Split, Task

DATA = ROOT.parent / "shared" / "data"
Row = dict[str, Any]
# Raw dataset → where it is written.
Raw = Callable[[Path], None]


def raw_dataset(path: Path, rows: list[Row]) -> None:
    """As ingest writes it."""
    types = SCHEMA | {"audio": IMAGE}
    names = [name for name in types if name in rows[0]]
    columns = {name: pa.array([row.get(name) for row in rows], types[name]) for name in names}
    write_dataset(path, {"all": pa.table(columns)})


@cache
def banking77() -> list[Row]:
    with (DATA / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        return [
            {"text": row["text"], "labels": [row["category"]], "origin": f"train.csv:row {number}"}
            for number, row in enumerate(csv.DictReader(file), 1)
        ]


def _files(archive: str, suffix: str) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(DATA / archive) as opened:
        for member in opened:
            data = opened.extractfile(member) if member.name.endswith(suffix) else None
            if data is not None:
                yield member.name, data.read()


@cache
def cifar10(most: int = 60_000) -> list[Row]:
    """All images, or `most` of the training images, drawn at random."""
    rows = [
        {"image": {"bytes": data, "path": None}, "labels": [name.split("/")[-2]], "origin": name}
        for name, data in _files("cifar10.tar.xz", ".jpg")
        if most >= 60_000 or "/train/" in f"/{name}"
    ]
    order = np.random.default_rng(0).permutation(len(rows))[:most]
    return [rows[int(place)] for place in order]


@cache
def fsdd() -> list[Row]:
    """Spoken digits, by speaker."""
    rows = []
    for name, data in _files("fsdd.tar.xz", ".wav"):
        digit, speaker, _ = Path(name).stem.split("_")
        sound = {"bytes": data, "path": None}
        rows.append({"audio": sound, "labels": [digit], "group": speaker, "origin": name})
    return rows


def spectrograms() -> list[Row]:
    """The recordings of FSDD as grey images of 64 × 64: log-magnitudes of short Fourier transforms."""
    from retrainer.formats.audio import decode_audio

    rows = []
    for row in fsdd():
        samples, _ = decode_audio(row["audio"]["bytes"], row["origin"])
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (0, 256)), 256)[::64]
        power = np.log1p(100 * np.abs(np.fft.rfft(frames * np.hanning(256)))).T[::-1]
        scaled = (255 * power / max(power.max(), 1e-6)).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(scaled).resize((64, 64)).save(stream, "PNG")
        kept = {name: row[name] for name in ("labels", "group", "origin")}
        rows.append({"image": {"bytes": stream.getvalue(), "path": None}, **kept})
    return rows


def clean_sources(unpacked: Path) -> dict[str, tuple[Raw, Task, Split]]:
    """Every real dataset and every recipe that needs no download; `unpacked` takes what must be unpacked."""
    for name in ("bccd", "fsdd"):
        if not (unpacked / name).exists():
            with tarfile.open(DATA / f"{name}.tar.xz") as archive:
                archive.extractall(unpacked / name, filter="data")
    recordings = next((unpacked / "fsdd").rglob("recordings"))
    boxes = next((unpacked / "bccd").rglob("BCCD"))
    parts = {"path": f"{DATA}/banking77/train.csv", "label": "category"}
    parts["test_path"] = f"{DATA}/banking77/test.csv"
    columns = {"image": "image", "boxes": "boxes"}
    scenes = Source.parse({"kind": "pascal_voc", "path": str(boxes), "columns": columns}, "source")
    kinds = ("text_classification", "image_classification", "audio_classification", "object_detection")
    texts, images, sounds, objects = (Task.parse({"kind": kind}, "task") for kind in kinds)
    split = Split.parse({}, "split")
    found: dict[str, tuple[Raw, Task, Split]] = {
        "banking77": (_ingested(Source.parse(parts, "source")), texts, split),
        "cifar10": (lambda path: raw_dataset(path, cifar10()), images, split),
        "fsdd sounds": (lambda path: raw_dataset(path, fsdd()), sounds, split),
        "fsdd spectrograms": (lambda path: raw_dataset(path, spectrograms()), images, split),
        "bccd": (_ingested(scenes), objects, split),
    }
    settings = {
        "fsdd speech": ("spoken-digits", [f"source.path={recordings}"]),
        "multi30k": ("translation", [f"source.path={DATA}/multi30k"]),
        # Its weights are those of another recipe's champion.
        "digits-resnet18": ("digits-resnet18", ["backbone.weights=''", "training.strategy=scratch"]),
        **{name: (name, []) for name in _RECIPES},
    }
    return found | {title: _of_recipe(name, changes) for title, (name, changes) in settings.items()}


_RECIPES = (
    "sentiment-minilm",
    "digits-mlp",
    "digits-backbone",
    "word-polarity",
    "digits-detection",
)


def _of_recipe(name: str, changes: list[str]) -> tuple[Raw, Task, Split]:
    with tempfile.TemporaryDirectory() as folder:
        settled = resolve(name, changes, ROOT, Path(folder))
    source, task, split = (settled.section(each) for each in ("source", "task", "split"))
    return _ingested(source), task, split  # type: ignore[return-value]


def _ingested(source: Any) -> Raw:
    def write(path: Path) -> None:
        ingest(source, path)

    return write
