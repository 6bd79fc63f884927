"""Random and spoiled bytes as every kind of input: read, or refused as a person's error, and in time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.ingest import ingest
from components.preprocess import preprocess
from retrainer.errors import UserError
from retrainer.formats.model_files import read_model
from retrainer.formats.network import load_network
from retrainer.models._start import read_tensors
from retrainer.resolve import read_yaml
from retrainer.services.weights_identity import check_header
from retrainer.settings import Checks, Source, Split, Task
from retrainer.tasks._decode_image import decode_image
from tests.bad_inputs import bricks, images, tables, weights
from tests.registered import image_dataset, untrained_model

TEXTS = Task(kind="text_classification")
IMAGES = Task.parse({"kind": "image_classification", "size": 8, "channels": 1}, "task")
MOST_MILLISECONDS = 5000


@cache
def model_files() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        model = untrained_model(Path(folder, "model"), image_dataset(Path(folder, "dataset")))
        return {path.name: path.read_bytes() for path in model.iterdir()}


def steps(task: Task) -> Callable[[Path], object]:
    return lambda path: both_steps(path, task)


def both_steps(path: Path, task: Task, test: float = 0.2) -> dict[str, Any]:
    raw, dataset = path.parent / "raw", path.parent / "dataset"
    ingest(raw=raw, pointer=None, source=Source(path=str(path)))
    told = preprocess(
        raw=raw,
        dataset=dataset,
        findings=dataset.with_name("findings"),
        html=None,
        split=Split(test=test),
        checks=Checks(),
        task=task,
    )
    return told["dataset"]


def one_image(path: Path) -> None:
    decode_image(path.read_bytes(), (8, 8), 1, path.name)


def in_a_folder(path: Path) -> None:
    """The image as one of many, where it can only be left out."""
    photos = path.parent / "photos"
    for name, data in (bricks.photos(8) | {"cat/odd.png": path.read_bytes()}).items():
        bricks.written(photos / name, data)
    told = both_steps(photos, IMAGES, test=0.4)
    assert sum(told["rows"].values()) + sum(told["dropped"].values()) == 9


def given_weights(path: Path) -> None:
    read_tensors(path)
    check_header(path)


def in_a_model(read: Callable[[Path], object]) -> Callable[[Path], object]:
    def with_the_others(path: Path) -> None:
        for name, content in model_files().items():
            bricks.written(path.parent / "model" / name, content)
        shutil.copy(path, path.parent / "model")
        read(path.parent / "model")

    return with_the_others


# Name of the file → a sound one, and what reads it.
KINDS: dict[str, tuple[Callable[[], bytes], Callable[[Path], object]]] = {
    "a.csv": (lambda: tables.CSV.encode(), steps(TEXTS)),
    "a.jsonl": (lambda: bricks.jsonl(bricks.table()).encode(), steps(TEXTS)),
    "a.parquet": (
        lambda: bricks.parquet({key: [row[key] for row in bricks.table()] for key in ("text", "label")}),
        steps(TEXTS),
    ),
    "a.zip": (lambda: bricks.zip_of(bricks.photos(12).items()), steps(IMAGES)),
    "a.tar": (lambda: bricks.tar_of(bricks.photos(12).items()), steps(IMAGES)),
    "a.png": (lambda: bricks.png(1), one_image),
    "b.png": (lambda: bricks.png(1), in_a_folder),
    "a.gif": (lambda: images.long_gif(20), one_image),
    "a.jpg": (lambda: images.JPG, one_image),
    "a.yaml": (lambda: b"training:\n  epochs: 3\n  schedule: [a, {b: 1e-4}]\nsource: data.csv\n", read_yaml),
    "a.safetensors": (lambda: weights.SOUND_WEIGHTS, given_weights),
    "manifest.json": (lambda: model_files()["manifest.json"], in_a_model(read_model)),
    "model.json": (lambda: model_files()["model.json"], in_a_model(load_network)),
    "model.safetensors": (lambda: model_files()["model.safetensors"], in_a_model(load_network)),
}


@st.composite
def spoiled(draw: st.DrawFn, sound: bytes) -> bytes:
    """Some bytes changed, put in, taken out or repeated; now and then nothing is left of it."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=400))
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        place, length = draw(st.integers(0, len(data))), draw(st.integers(0, 12))
        kind = draw(st.sampled_from(("change", "put in", "take out", "repeat", "cut")))
        if kind == "change":
            data[place : place + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "put in":
            data[place:place] = draw(st.binary(max_size=12))
        elif kind == "take out":
            del data[place : place + length]
        elif kind == "repeat":
            data[place:place] = data[place : place + length] * draw(st.integers(1, 50))
        elif draw(st.integers(0, 3)) == 0:
            del data[place:]
    return bytes(data)


@pytest.mark.parametrize("name", KINDS)
@settings(
    max_examples=30,
    deadline=MOST_MILLISECONDS,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)
@given(data=st.data())
def test_spoiled_bytes_are_read_or_refused_in_one_line(name: str, data: st.DataObject) -> None:
    make, read = KINDS[name]
    content = data.draw(spoiled(make()))
    with TemporaryDirectory() as folder:
        path = bricks.written(Path(folder, name), content)
        try:
            read(path)
        except UserError as error:
            assert "\n" not in str(error)
