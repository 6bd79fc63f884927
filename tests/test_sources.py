"""Which reader a source has, the digest that `resolve` takes of it, built-in data, plug-ins."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrainer.data.fingerprint import choose_kind, source_digest
from retrainer.data.ingest import ingest
from retrainer.data.sources import photo_tiles
from retrainer.data.sources._png import grey_png
from retrainer.errors import UserError
from retrainer.settings import Source
from tests.source_files import PHOTOS, as_directory, read, rows_of, written


def test_the_lexicon_has_its_distinct_senses_of_two_classes(tmp_path):
    rows = read(tmp_path, kind="sentiment_lexicon")
    assert len(rows) == 1516
    assert {label for row in rows for label in row["labels"]} == {"positive", "negative"}
    assert all(row["text"].startswith(row["group"]) for row in rows)
    assert len({row["text"] for row in rows}) == len(rows)


def test_word_polarity_reads_all_senses_with_their_rating(tmp_path):
    columns = {"text": "string", "target": "number"}
    ingest(Source(kind="word_polarity", columns=columns), tmp_path / "raw")
    rows = rows_of(tmp_path / "raw")
    assert len(rows) == 2637 and sum(row["target"] == 0 for row in rows) == 922
    assert {-1.0, 1.0} < {row["target"] for row in rows} and all(abs(row["target"]) <= 1 for row in rows)
    assert all(row["text"].startswith(row["group"]) for row in rows)


def test_digits_of_chosen_classes_are_read_as_grey_images(tmp_path):
    manifest = ingest(Source(kind="digits", classes=("0", "7")), tmp_path / "raw")
    assert manifest["classes"] == {"all": {"0": 500, "7": 500}}
    assert manifest["dropped"] == {"class not selected": 4000}
    with Image.open(io.BytesIO(rows_of(tmp_path / "raw")[0]["image"]["bytes"])) as image:
        assert image.size == (28, 28) and image.mode == "L" and image.getextrema() == (0, 255)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32))
def test_a_png_that_we_write_is_read_alike_by_pillow(height, width, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    with Image.open(io.BytesIO(grey_png(pixels))) as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_mnist_from_files_that_are_there(tmp_path):
    for part, count in (("train", 3), ("t10k", 2)):
        pixels = struct.pack(">IIII", 0x803, count, 28, 28) + bytes([7]) * (784 * count)
        written(tmp_path / f"cache/MNIST/raw/{part}-images-idx3-ubyte", pixels)
        written(
            tmp_path / f"cache/MNIST/raw/{part}-labels-idx1-ubyte",
            struct.pack(">II", 0x801, count) + bytes(range(count)),
        )
    manifest = ingest(Source(kind="mnist", path=str(tmp_path / "cache")), tmp_path / "raw")
    assert manifest["classes"] == {"all": {"0": 1, "1": 1, "2": 1}, "given_test": {"0": 1, "1": 1}}
    assert manifest["columns"] == ["image", "labels", "origin"]
    written(tmp_path / "cache/MNIST/raw/train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0")
    with pytest.raises(UserError, match="train-labels-idx1-ubyte is not whole"):
        ingest(Source(kind="mnist", path=str(tmp_path / "cache")), tmp_path / "raw")


def test_photo_tiles_are_the_pixels_of_the_two_photographs(tmp_path):
    manifest = ingest(Source(kind="photo_tiles"), tmp_path / "raw")
    assert manifest["classes"] == {"all": {"flower": 160, "temple": 160}}
    (one,) = [row for row in rows_of(tmp_path / "raw") if row["origin"] == "china.jpg:row 2, column 3"]
    with (
        Image.open(io.BytesIO(one["image"]["bytes"])) as tile,
        Image.open(photo_tiles.files(Source())[1]) as whole,
    ):
        assert tile.mode == "RGB" and tile.size == (40, 40)
        assert tile.tobytes() == whole.crop((80, 40, 120, 80)).tobytes()


@pytest.mark.parametrize("kind", ["digits", "sentiment_lexicon", "word_polarity", "photo_tiles"])
def test_built_in_data_takes_no_path(tmp_path, kind):
    with pytest.raises(UserError, match=f"source.path has no meaning with source.kind {kind}"):
        ingest(Source(kind=kind, path="mine.csv"), tmp_path / "raw")


def test_the_digest_follows_bytes_and_names_not_places(tmp_path):
    for place in ("here", "there/deeper"):
        written(tmp_path / place / "a.csv", "text,label\na,b\n")
        written(tmp_path / place / "t.csv", "text,label\nc,b\n")
        as_directory(tmp_path / place, PHOTOS)
    for path, test in (("a.csv", ""), ("a.csv", "t.csv"), ("photos", "")):
        digests = {
            source_digest(
                Source(path=f"{tmp_path}/{place}/{path}", test_path=test and f"{tmp_path}/{place}/{test}")
            )
            for place in ("here", "there/deeper")
        }
        assert len(digests) == 1
    before = source_digest(Source(path=str(tmp_path / "here/photos")))
    (tmp_path / "here/photos/cat/1.png").rename(tmp_path / "here/photos/dog/9.png")
    assert source_digest(Source(path=str(tmp_path / "here/photos"))) != before


def test_the_cache_spares_reading_and_sees_edits(tmp_path):
    path, cache = Path(written(tmp_path / "a.csv", "text,label\na,b\n")), tmp_path / "cache.json"
    source = Source(path=str(path))
    first = source_digest(source, cache)
    assert not cache.exists(), "a file of this very moment may still change unseen"
    long_ago = path.stat().st_mtime - 100
    os.utime(path, (long_ago, long_ago))
    cache.write_text("{ damaged")
    assert source_digest(source, cache) == first
    path.write_text("text,label\nx,b\n")  # the same size, and the same time again:
    os.utime(path, (long_ago, long_ago))
    assert source_digest(source, cache) != first


def test_a_cached_digest_is_used_without_reading_the_file(tmp_path, monkeypatch):
    source, cache = Source(path=written(tmp_path / "a.csv", "text,label\na,b\n")), tmp_path / "cache.json"
    monkeypatch.setattr("retrainer.data.fingerprint._UNSETTLED_SECONDS", -100.0)
    first = source_digest(source, cache)
    known = json.loads(cache.read_text())
    cache.write_text(json.dumps({path: [stamp, "0" * 64] for path, (stamp, _) in known.items()}))
    assert source_digest(source, cache) != first


def test_ingest_refuses_a_source_that_changed_since_resolve(tmp_path):
    path = Path(written(tmp_path / "a.csv", "text,label\na,b\n"))
    digest = source_digest(Source(path=str(path)))
    ingest(Source(path=str(path), digest=digest), tmp_path / "raw")
    path.write_text("text,label\nz,b\n")
    with pytest.raises(UserError, match=r"a\.csv changed since the settings were resolved; run again"):
        ingest(Source(path=str(path), digest=digest), tmp_path / "raw")


def test_the_manifest_says_where_rows_came_from_without_a_path_of_this_machine(tmp_path):
    path = written(tmp_path / "a.csv", "text,label\na,x\nb,y\nc,z\n")
    test = written(tmp_path / "t.csv", "text,label\nd,x\n")
    manifest = ingest(Source(path=path, test_path=test, classes=("x", "y")), tmp_path / "raw")
    assert [(part["file"], part["rows"]) for part in manifest["sources"]] == [("a.csv", 3), ("t.csv", 1)]
    assert manifest["rows"] == {"all": 2, "given_test": 1} and manifest["dropped"] == {
        "class not selected": 1
    }
    assert str(tmp_path) not in (tmp_path / "raw/manifest.json").read_text()


BAD_CHOICES = {
    "nothing": ({}, "source.path is empty.*digits"),
    "absent": ({"path": "absent.csv"}, r"there is no file absent\.csv"),
    "absent archive": ({"path": "absent.zip"}, r"source.path: absent\.zip does not exist"),
    "unknown suffix": (
        {"path": "pyproject.toml"},
        "source.path: pyproject.toml has a suffix that no source reads",
    ),
    "no such kind": ({"kind": "cvs"}, "source.kind: no 'cvs'.*did you mean 'csv'"),
    "no such plug-in": ({"kind": "plugins.nowhere"}, "source.kind: no module plugins.nowhere"),
    "half a plug-in": ({"kind": "retrainer.errors"}, "retrainer.errors has no function files"),
}


@pytest.mark.parametrize("name", BAD_CHOICES)
def test_a_source_that_is_not_there(tmp_path, name):
    options, message = BAD_CHOICES[name]
    with pytest.raises(UserError, match=message):
        ingest(Source(**options), tmp_path / "raw")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.CSV", "csv"),
        ("b.ndjson", "jsonl"),
        ("c.parquet", "parquet"),
        ("d.tar.xz", "image_folder"),
        ("s3://bucket/x.jsonl", "jsonl"),
        ("s3://bucket/photos", "image_folder"),
    ],
)
def test_the_suffix_chooses_the_reader(path, kind):
    assert choose_kind(Source(path=path)) == kind


def test_a_test_set_without_what_the_training_rows_have(tmp_path):
    path = written(tmp_path / "a.csv", "text,text_pair,label\na,b,x\n")
    test = written(tmp_path / "t.csv", "text,label\nd,x\n")
    with pytest.raises(UserError, match="the test set has no text_pair"):
        ingest(Source(path=path, test_path=test), tmp_path / "raw")
    empty = written(tmp_path / "e.csv", "text,label\n")
    with pytest.raises(UserError, match=r"e\.csv has no rows to test on"):
        ingest(Source(path=path, test_path=empty), tmp_path / "raw")


def test_classes_choose_among_the_labels_of_a_row(tmp_path):
    path = written(tmp_path / "a.csv", "text,label\na,x|y|z\nb,z\nc,y\n")
    rows = read(tmp_path, path=path, label_separator="|", classes=("x", "y"))
    assert [row["labels"] for row in rows] == [["x", "y"], ["y"]]
    with pytest.raises(UserError, match=r"source\.classes: no row has the class 'w'"):
        ingest(Source(path=path, label_separator="|", classes=("x", "w")), tmp_path / "raw")


PLUGIN = """
import pyarrow as pa
from pathlib import Path
def files(source): return [Path(__file__)]
def read(source):
    yield pa.table({TABLE})
"""


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("{'text': ['a', 'b'], 'labels': [['x'], ['y']]}", None),
        ("{'text': ['a', 'b'], 'label': ['x', 'y']}", "has no 'labels'"),
        ("{'text': ['a', 'b'], 'labels': ['x', 'y']}", "is not of the dataset's types"),
    ],
)
def test_a_plug_in_source(tmp_path, monkeypatch, table, message):
    name = f"source_{abs(hash(table))}"
    written(tmp_path / f"own_sources_{name}/mine.py", PLUGIN.replace("{TABLE}", table))
    monkeypatch.syspath_prepend(tmp_path)
    source = Source(kind=f"own_sources_{name}.mine")
    if message:
        with pytest.raises(UserError, match=message):
            ingest(source, tmp_path / "raw")
    else:
        ingest(source, tmp_path / "raw")
        assert [row["origin"].split(":")[1] for row in rows_of(tmp_path / "raw")] == ["row 1", "row 2"]


def test_ingest_imports_nothing_heavy(tmp_path):
    path = written(tmp_path / "a.csv", "text,label\na,b\n")
    code = (
        "import sys; from pathlib import Path\n"
        "from retrainer.data.ingest import ingest\nfrom retrainer.settings import Source\n"
        f"ingest(Source(path={path!r}), Path({str(tmp_path / 'raw')!r}))\n"
        "heavy = {'torch', 'torchvision', 'transformers', 'sklearn', 'mlflow', 'datasets', 'PIL'}\n"
        "print(*(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
