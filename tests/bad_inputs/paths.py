"""Paths that lead to no plain file, or nowhere."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.bad_inputs.bricks import Case, Maker, file, image_folder, photos, png, written
from tests.bad_inputs.tables import CSV


def pipe(name: str) -> Maker:
    def make(folder: Path) -> dict[str, str]:
        os.mkfifo(folder / name)
        return {"path": str(folder / name)}

    return make


def a_socket(folder: Path) -> dict[str, str]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "a.csv"))
    return {"path": str(folder / "a.csv")}


def pipe_among_images(folder: Path) -> dict[str, str]:
    source = image_folder(folder, photos(4))
    os.mkfifo(folder / "photos" / "cat" / "pipe.png")
    return source


def link_among_images(folder: Path) -> dict[str, str]:
    source = image_folder(folder, photos(4))
    (folder / "photos" / "cat" / "link.png").symlink_to(written(folder / "secret.png", png(1)))
    return source


def loop(name: str) -> Maker:
    def make(folder: Path) -> dict[str, str]:
        (folder / "other").symlink_to(folder / name)
        (folder / name).symlink_to(folder / "other")
        return {"path": str(folder / name)}

    return make


def loop_in_a_table(folder: Path) -> dict[str, str]:
    loop("x.png")(folder)
    return file("a.csv", "image,label\nx.png,a\n")(folder)


def locked(folder: Path) -> dict[str, str]:
    source = image_folder(folder, photos(4))
    (folder / "photos" / "cat").chmod(0)
    return source


PATHS = {
    "a file that is not there": Case(
        lambda folder: {"path": f"{folder}/no.csv"}, r"source\.path: there is no file .*no\.csv"
    ),
    "a folder that is not there": Case(
        lambda folder: {"path": f"{folder}/../no"}, r"source\.path: .*/\.\./no does not exist"
    ),
    "a suffix that nobody reads": Case(
        file("a.xlsx", "PK"), r"source\.path: .*a\.xlsx has a suffix that no source reads; known"
    ),
    "a pipe": Case(pipe("a.csv"), r"source\.path: .*a\.csv is no plain file"),
    "a pipe named as an archive": Case(pipe("a.zip"), r"source\.path: .*a\.zip is no folder or archive"),
    "a pipe named as nothing": Case(pipe("a"), r"source\.path: .*a has a suffix that no source reads"),
    "a socket": Case(a_socket, r"source\.path: .*a\.csv is no plain file"),
    "a pipe among images": Case(pipe_among_images, r"cat/pipe\.png is no plain file"),
    "a link out of an image folder": Case(
        link_among_images, r"cat/link\.png is no plain file, or a link out of"
    ),
    "a loop of links": Case(loop("a.csv"), r"source\.path: .*a\.csv"),
    "a loop of links as a folder": Case(loop("a"), r"source\.path: .*/a does not exist"),
    "a loop of links in a table": Case(
        loop_in_a_table, r"a\.csv: column 'image' holds 'x\.png'|names 'x\.png'"
    ),
    "a folder that may not be read": Case(
        locked, r"source\.path: .*cat cannot be read \(Permission denied\)"
    ),
    "a web address": Case(
        lambda _: {"path": "https://host/a.csv"}, r"source\.path: https:// addresses are not read; download"
    ),
    "a web address of a test set": Case(
        lambda folder: {"path": file("a.csv", CSV)(folder)["path"], "test_path": "http://host/t.csv"},
        r"source\.test_path: http:// addresses are not read",
    ),
    "a path with a NUL": Case(
        lambda folder: {"path": f"{folder}/a\0b.csv"}, r"source\.path: there is no file"
    ),
    "S3 without credentials": Case(
        lambda _: {"path": "s3://bucket/a.csv"}, r"source\.path: s3://bucket/a\.csv cannot be used"
    ),
    "S3 without a bucket": Case(
        lambda _: {"path": "s3:///a.csv"}, r"source\.path: s3:///a\.csv should read s3://BUCKET/KEY"
    ),
    "S3 with a bucket that cannot be": Case(
        lambda _: {"path": "s3://no bucket/a.csv"}, r"source\.path: s3://no bucket"
    ),
}
