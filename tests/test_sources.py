"""Every kind of source, sound and broken, and the digest that `resolve` takes of it."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from retrainer.data.fingerprint import choose_kind, source_digest
from retrainer.data.ingest import ingest
from retrainer.data.sources import _archives
from retrainer.data.sources._png import grey_png
from retrainer.errors import UserError
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


# --- tables -----------------------------------------------------------------------------------------------


def test_csv_keeps_newlines_inside_quotes_and_numbers_records(tmp_path):
    path = written(tmp_path / "a.csv", '\ufefftext,label\r\n"one\ntwo, ""three""",x\r\n\r\nNA,2\r\n')
    rows = read(tmp_path, path=path)
    assert rows == [
        {"text": 'one\ntwo, "three"', "labels": ["x"], "origin": "a.csv:row 1"},
        {"text": "NA", "labels": ["2"], "origin": "a.csv:row 2"},
    ]


def test_csv_takes_optional_columns_and_separates_labels(tmp_path):
    header = "q,text_pair,tags,group,time,id,ignored\n"
    path = written(tmp_path / "a.csv", header + "a,b,x | y,g,2024-01-01,7,z\nc,d,,,,8,z\n")
    first, second = read(tmp_path, path=path, text="q", label="tags", label_separator="|")
    assert first == {
        "text": "a",
        "text_pair": "b",
        "labels": ["x ", " y"],
        "group": "g",
        "time": "2024-01-01",
        "id": "7",
        "origin": "a.csv:row 1",
    }
    assert second["labels"] == []


def test_tab_separated_and_a_folder_of_parts(tmp_path):
    written(tmp_path / "parts/b.tsv", "text\tlabel\nx, y\t1\n")
    written(tmp_path / "parts/a.csv", "text,label\nz,2\n")
    rows = read(tmp_path, path=str(tmp_path / "parts"))
    assert [(row["text"], row["origin"]) for row in rows] == [("z", "a.csv:row 1"), ("x, y", "b.tsv:row 1")]


def test_jsonl_turns_plain_values_into_text(tmp_path):
    lines = [
        {"text": "a", "label": 3, "id": 1.0},
        {"text": 7, "label": [True, "x"], "group": "g"},
        {"text": None, "label": None},
        {"text": "b", "label": 2.0},
    ]
    path = written(tmp_path / "a.jsonl", "\n\n".join(json.dumps(line) for line in lines))
    rows = read(tmp_path, path=path)
    assert [row["labels"] for row in rows] == [["3"], ["true", "x"], None, ["2"]]
    assert [row["text"] for row in rows] == ["a", "7", None, "b"]
    assert rows[0]["id"] == "1" and rows[1]["group"] == "g" and rows[1]["origin"] == "a.jsonl:row 3"


def test_parquet_reads_class_labels_images_and_times(tmp_path):
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    images = pa.array([{"bytes": png(1), "path": None}, {"bytes": png(2), "path": "x.png"}, None])
    table = pa.table(
        {
            "image": images,
            "label": pa.array([1, 0, -1]),
            "time": pa.array([1, 2, 3], pa.timestamp("ns")),
            "group": pa.array([1.0, None, 3.0]),
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(tmp_path, path=str(tmp_path / "a.parquet"))
    assert [row["labels"] for row in rows] == [["dog"], ["cat"], None]
    assert [row["image"] and row["image"]["bytes"] for row in rows] == [png(1), png(2), None]
    assert [row["group"] for row in rows] == ["1", None, "3"]
    assert rows[0]["time"].startswith("1970-01-01 00:00:00.000000001")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_text_of_any_string_type(tmp_path, kind):
    table = pa.table({"text": pa.array(["a", "b"]).cast(kind), "label": pa.array([["x", "y"], []])})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(tmp_path, path=str(tmp_path / "a.parquet"))
    assert [(row["text"], row["labels"]) for row in rows] == [("a", ["x", "y"]), ("b", [])]


def table_of(kind: str, folder: Path, image: str) -> str:
    """A table of one row in each format, whose image is named by a path."""
    if kind == "csv":
        return written(folder / "a.csv", f"image,label\n{image},x\n")
    if kind == "jsonl":
        return written(folder / "a.jsonl", json.dumps({"image": image, "label": "x"}) + "\n")
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": [image], "label": ["x"]}), folder / "a.parquet")
    return str(folder / "a.parquet")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_images_beside_the_table_are_read_and_counted_in_the_digest(tmp_path, kind):
    image = tmp_path / "photos/1.png"
    written(image, png(1))
    source = Source(path=table_of(kind, tmp_path, "photos/1.png"))
    before = source_digest(source)
    assert read(tmp_path, **source.plain())[0]["image"]["bytes"] == png(1)
    image.write_bytes(png(2))
    assert source_digest(source) != before


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/hostname", "link.png", "absent.png", ".", "a\0b", "x" * 5000]
)
def test_an_image_path_never_leaves_the_folder_of_its_table(tmp_path, kind, name):
    written(tmp_path / "secret.png", png(1))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    path = table_of(kind, folder, name)
    with pytest.raises(UserError, match=r"a\.(csv|jsonl|parquet).*(column 'image' (names|holds) '|NUL)"):
        ingest(Source(path=path), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


BAD_TABLES = {
    "no label": (
        "a.csv",
        "text,y\na,b\n",
        {},
        r"a\.csv has no column 'label'; its columns: 'text', 'y'; set source.label",
    ),
    "no text": (
        "a.csv",
        "label,y\na,b\n",
        {},
        r"has no column 'text', nor 'image' \(source.image\).*set source.text",
    ),
    "named group": ("a.csv", "text,label\na,b\n", {"group": "who"}, "no column 'who'.*set source.group"),
    "semicolons": ("a.csv", "text;label\na;b\n", {}, "no column 'label'.*separated by commas"),
    "two columns": ("a.csv", "text,text,label\na,b,c\n", {}, "two columns are named 'text'"),
    "ragged": ("a.csv", "text,label\na,b\nc,d,e\n", {}, r"a\.csv:row 2: 3 fields where the header names 2"),
    "open quote": ("a.csv", 'text,label\na,b\n"c,d\ne,f\n', {}, r"a\.csv:row 2: .*never closed"),
    "not utf-8": ("a.csv", b"text,label\na,b\ncaf\xe9,d\n", {}, r"a\.csv: not UTF-8 text.*save it as UTF-8"),
    "utf-16": ("a.csv", "text,label\n".encode("utf-16"), {}, "not UTF-8"),
    "empty": ("a.csv", "", {}, r"a\.csv is empty"),
    "only a header": ("a.csv", "text,label\n", {}, r"a\.csv has no rows"),
    "empty jsonl": ("a.jsonl", "\n\n", {}, r"a\.jsonl has no rows"),
    "not json": ("a.jsonl", '{"text": "a", "label": 1}\n{"text"\n', {}, r"a\.jsonl:row 2: not JSON"),
    "not an object": ("a.jsonl", "[1]\n", {}, r"a\.jsonl:row 1: a list, not an object"),
    "deep json": ("a.jsonl", "[" * 100_000 + "\n", {}, r"a\.jsonl:row 1: not JSON"),
    "jsonl not utf-8": ("a.jsonl", b'{"text": "\xff"}\n', {}, r"a\.jsonl:row 1: not UTF-8"),
    "no key": ("a.jsonl", '{"text": "a"}\n', {}, "no column 'label'.*set source.label"),
    "text a list": ("a.jsonl", '{"text": [1], "label": 1}\n', {}, r"row 1: column 'text' holds a list"),
    "fraction": ("a.jsonl", '{"text": "a", "label": 0.5}\n', {}, r"row 1: column 'label' holds 0\.5"),
    "label an object": ("a.jsonl", '{"text": "a", "label": {}}\n', {}, r"column 'label' holds a dict"),
    "image a path in an object": (
        "a.jsonl",
        '{"image": {"path": "x.png"}, "label": 1}\n',
        {},
        "column 'image' has a path and no bytes",
    ),
    "image a number": ("a.jsonl", '{"image": 3, "label": 1}\n', {}, "column 'image' holds a int"),
    "not parquet": ("a.parquet", b"PAR1 nonsense PAR1", {}, r"a\.parquet is not a whole Parquet file"),
    "empty parquet": ("a.parquet", b"", {}, r"a\.parquet is not a whole Parquet file"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_is_an_error_that_names_the_cure(tmp_path, name):
    file, content, options, message = BAD_TABLES[name]
    path = written(tmp_path / file, content)
    with pytest.raises(UserError, match=message) as error:
        ingest(Source(path=path, **options), tmp_path / "raw")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "raw").exists()


def test_a_damaged_parquet_file_never_fails_in_another_way(tmp_path):
    table = pa.table({"text": [f"text {n}" for n in range(50)], "label": ["a", "b"] * 25})
    pq.write_table(table, tmp_path / "sound.parquet")
    sound = (tmp_path / "sound.parquet").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(sound)
        for place in rng.integers(0, len(sound), 3):
            damaged[place] ^= int(rng.integers(1, 256))
        path = written(tmp_path / "a.parquet", bytes(damaged))
        try:
            ingest(Source(path=path), tmp_path / "raw")
        except UserError as error:
            assert "a.parquet" in str(error)


# --- image folders ----------------------------------------------------------------------------------------

PHOTOS = {"cat/1.png": png(1), "cat/deep/2.png": png(2), "dog/1.png": png(3)}
Packer = Callable[[Path, dict[str, bytes]], Path]


def as_directory(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        written(folder / "photos" / name, data)
    return folder / "photos"


def as_zip(folder: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return folder / "photos.zip"


def tar_bytes(files: dict[str, bytes], extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return buffer.getvalue()


def as_tar(suffix: str, pack: Callable[[bytes], bytes]) -> Packer:
    def packer(folder: Path, files: dict[str, bytes]) -> Path:
        return Path(written(folder / f"photos{suffix}", pack(tar_bytes(files))))

    return packer


PACKERS: dict[str, Packer] = {
    "directory": as_directory,
    "zip": as_zip,
    "tar": as_tar(".tar", bytes),
    "tar.gz": as_tar(".tar.gz", gzip.compress),
    "txz": as_tar(".txz", lzma.compress),
}


@pytest.mark.parametrize("form", PACKERS)
def test_a_folder_of_images_is_the_same_in_every_form(tmp_path, form):
    path = PACKERS[form](tmp_path, {**PHOTOS, ".hidden/x.png": png(9), "cat/Thumbs.db": b"?"})
    manifest = ingest(Source(path=str(path)), tmp_path / "raw")
    plain = ingest(Source(path=str(as_directory(tmp_path / "other", PHOTOS))), tmp_path / "plain")
    assert manifest["content_sha256"] == plain["content_sha256"]
    assert manifest["classes"]["all"] == {"cat": 2, "dog": 1}
    joint = "/" if form == "directory" else ":"
    assert f"{path.name}{joint}cat/deep/2.png" in [row["origin"] for row in rows_of(tmp_path / "raw")]


@pytest.mark.parametrize("form", ["directory", "zip", "tar"])
@pytest.mark.parametrize("around", ["", "set/", "a/b/"])
def test_train_and_test_folders_and_folders_around_them(tmp_path, form, around):
    parts = {"train/cat/1.png": 1, "train/dog/2.png": 2, "val/cat/3.png": 3, "test/dog/4.png": 4}
    path = PACKERS[form](tmp_path, {around + name: png(shade) for name, shade in parts.items()})
    manifest = ingest(Source(path=str(path)), tmp_path / "raw")
    assert manifest["classes"] == {"all": {"cat": 2, "dog": 1}, "given_test": {"dog": 1}}


def test_an_own_test_folder_and_strays(tmp_path):
    path = as_directory(
        tmp_path, {**PHOTOS, "stray.png": png(7), "cat/notes.txt": b"hello", "cat/empty.png": b""}
    )
    test = as_zip(tmp_path, {"test/cat/9.png": png(9)})
    rows = read(tmp_path, path=str(path), test_path=str(test))
    by_origin = {row["origin"]: row for row in rows}
    assert by_origin["photos/stray.png"]["labels"] is None
    assert by_origin["photos/cat/notes.txt"]["image"] is None
    assert by_origin["photos/cat/empty.png"]["image"] is None
    assert [row["labels"] for row in rows_of(tmp_path / "raw", "given_test")] == [["cat"]]


BAD_LAYOUTS = {
    "only test": ({"test/cat/1.png": png(1), "test/dog/2.png": png(2)}, False, "has test/ and no train/"),
    "third folder": (
        {"train/cat/1.png": png(1), "test/cat/2.png": png(2), "more/3.png": png(3)},
        False,
        "beside them more/",
    ),
    "two tests": (
        {"train/cat/1.png": png(1), "test/cat/2.png": png(2)},
        True,
        "source.test_path is set, but photos",
    ),
    "nothing": ({".hidden": b""}, False, "has no rows"),
}


@pytest.mark.parametrize("name", BAD_LAYOUTS)
def test_a_layout_that_cannot_be_meant_is_refused(tmp_path, name):
    files, with_test, message = BAD_LAYOUTS[name]
    path = as_directory(tmp_path, files)
    test_path = str(as_directory(tmp_path / "own", PHOTOS)) if with_test else ""
    with pytest.raises(UserError, match=message):
        ingest(Source(path=str(path), test_path=test_path), tmp_path / "raw")


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "info",
    [
        member("../cat/1.png"),
        member("/cat/1.png"),
        member("cat/../../1.png"),
        member("cat\\..\\1.png"),
        member("C:/cat/1.png"),
        member("cat/link.png", tarfile.SYMTYPE, "/etc/passwd"),
        member("cat/hard.png", tarfile.LNKTYPE, "cat/1.png"),
        member("cat/pipe.png", tarfile.FIFOTYPE),
        member("cat/disk.png", tarfile.BLKTYPE),
        member("cat/sparse.png", tarfile.GNUTYPE_SPARSE),
    ],
    ids=lambda info: f"{info.name}-{info.type!r}",
)
def test_a_tar_of_more_than_plain_files_is_refused_by_name(tmp_path, info):
    path = written(tmp_path / "photos.tar", tar_bytes(PHOTOS, (info,)))
    with pytest.raises(UserError, match=r"photos\.tar: member '.*; pack plain files only"):
        ingest(Source(path=path), tmp_path / "raw")
    assert sorted(tmp_path.iterdir()) == [Path(path)], "nothing may be unpacked"


@pytest.mark.parametrize("name", ["../1.png", "/etc/1.png", "link", "encrypted"])
def test_a_zip_of_more_than_plain_files_is_refused_by_name(tmp_path, name):
    info = zipfile.ZipInfo(name)
    if name == "link":
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr(info, b"/etc/passwd")
    data = bytearray((tmp_path / "photos.zip").read_bytes())
    if name == "encrypted":
        directory = data.index(b"PK\x01\x02")
        struct.pack_into("<H", data, directory + 8, 1)
    path = written(tmp_path / "photos.zip", bytes(data))
    with pytest.raises(UserError, match=r"photos\.zip: member '.*; pack plain files only"):
        ingest(Source(path=path), tmp_path / "raw")


@pytest.mark.parametrize("form", ["zip", "tar.gz", "txz"])
def test_a_bomb_is_stopped_early(tmp_path, form, monkeypatch):
    monkeypatch.setattr(_archives, "HARMLESS_BYTES", 2**20)
    path = PACKERS[form](tmp_path, {f"cat/{n}.png": bytes(3 * 2**20) for n in range(5)})
    with pytest.raises(UserError, match="swells more than 100 times"):
        ingest(Source(path=str(path)), tmp_path / "raw")


def test_a_bomb_in_the_headers_of_a_tar_is_stopped_too(tmp_path, monkeypatch):
    monkeypatch.setattr(_archives, "HARMLESS_BYTES", 2**20)
    info = tarfile.TarInfo("cat/1.png")
    info.pax_headers = {"comment": "x" * (8 * 2**20)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    path = written(tmp_path / "photos.tar.gz", gzip.compress(buffer.getvalue()))
    with pytest.raises(UserError, match="swells more than 100 times"):
        ingest(Source(path=path), tmp_path / "raw")


@pytest.mark.parametrize(
    ("cap", "message"),
    [
        ("MAX_MEMBERS", "more than 2 files"),
        ("MAX_IMAGE_BYTES", "is larger than 0 MiB"),
        ("MAX_BYTES", "holds more than 0 GiB"),
    ],
)
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_the_caps_hold(tmp_path, form, cap, message, monkeypatch):
    monkeypatch.setattr(_archives, cap, 2)
    path = PACKERS[form](tmp_path, PHOTOS)
    with pytest.raises(UserError, match=message):
        ingest(Source(path=str(path)), tmp_path / "raw")


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz", "txz"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_archive_never_fails_in_another_way(tmp_path, form, data):
    path = PACKERS[form](tmp_path, PHOTOS)
    packed = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(packed) - 1), max_size=4)):
        packed[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(packed[: data.draw(st.integers(0, len(packed)))])
    try:
        list(_archives.members(path))
    except UserError as error:
        assert path.name in str(error)


def test_links_and_special_files_in_a_directory(tmp_path):
    root = as_directory(tmp_path, PHOTOS)
    (root / "cat/again.png").symlink_to(root / "dog/1.png")
    assert len(read(tmp_path, path=str(root))) == 4
    written(tmp_path / "secret.png", png(8))
    for made, undo in (
        (lambda p: p.symlink_to(tmp_path / "secret.png"), Path.unlink),
        (lambda p: p.symlink_to(root / "dog"), Path.unlink),
        (os.mkfifo, Path.unlink),
    ):
        made(root / "cat/x.png")
        with pytest.raises(UserError, match=r"cat/x\.png is no plain file, or a link out of"):
            ingest(Source(path=str(root)), tmp_path / "raw")
        undo(root / "cat/x.png")


# --- built-in data ----------------------------------------------------------------------------------------


def test_the_lexicon(tmp_path):
    rows = read(tmp_path, kind="sentiment_lexicon")
    assert len(rows) == 1516
    assert {label for row in rows for label in row["labels"]} == {"positive", "negative"}
    assert all(row["text"].startswith(row["group"]) for row in rows)
    assert len({row["text"] for row in rows}) == len(rows)


def test_the_digits(tmp_path):
    manifest = ingest(Source(kind="digits", classes=("0", "7")), tmp_path / "raw")
    assert manifest["classes"] == {"all": {"0": 500, "7": 500}}
    assert manifest["dropped"] == {"class not selected": 4000}
    with Image.open(io.BytesIO(rows_of(tmp_path / "raw")[0]["image"]["bytes"])) as image:
        assert image.size == (28, 28) and image.mode == "L" and image.getextrema() == (0, 255)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32))
def test_our_png_is_what_others_read(height, width, seed):
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


@pytest.mark.parametrize("kind", ["digits", "sentiment_lexicon"])
def test_built_in_data_takes_no_path(tmp_path, kind):
    with pytest.raises(UserError, match=f"source.path has no meaning with source.kind {kind}"):
        ingest(Source(kind=kind, path="mine.csv"), tmp_path / "raw")


# --- the digest, the manifest, the choice -----------------------------------------------------------------


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


def test_the_cache_is_believed(tmp_path, monkeypatch):
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


def test_banking77_has_newlines_inside_quotes(tmp_path, shared_data):
    folder = shared_data / "banking77"
    source = {"path": str(folder / "train.csv"), "test_path": str(folder / "test.csv"), "label": "category"}
    rows = read(tmp_path, **source)
    assert len(rows) == 10_003 and len(rows_of(tmp_path / "raw", "given_test")) == 3_080
    assert any("\n" in row["text"] for row in rows) and len({row["labels"][0] for row in rows}) == 77
