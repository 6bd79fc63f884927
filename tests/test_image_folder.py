"""Folders of images, as they are or packed, and what must not come out of an archive."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrainer.data.ingest import ingest
from retrainer.data.sources import _archives
from retrainer.errors import UserError
from retrainer.settings import Source
from tests.source_files import PHOTOS, as_directory, png, read, rows_of, written

Packer = Callable[[Path, dict[str, bytes]], Path]


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
    assert manifest["classes"] == {
        "all": {"cat": 1, "dog": 1},
        "given_test": {"dog": 1},
        "given_validation": {"cat": 1},
    }


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
        "beside them more",
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
def test_more_or_larger_files_than_allowed_are_refused(tmp_path, form, cap, message, monkeypatch):
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
