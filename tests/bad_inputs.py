"""Inputs that people really give, wrong in one way each: how they are made, and what must be said of them.

A maker writes its input below a folder and returns what names it: a section `source` (`ingest`,
`preprocess`) or the text of a recipe (`resolve`, `train`).
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import pickle
import socket
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from safetensors.numpy import save

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


# --- bricks -----------------------------------------------------------------------------------------------


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


# --- archives ---------------------------------------------------------------------------------------------

SOUND = list(photos(4).items())


def encrypted_zip() -> bytes:
    data = bytearray(zip_of(SOUND))
    struct.pack_into("<H", data, data.index(b"PK\x01\x02") + 8, 1)
    return bytes(data)


def lying_zip() -> bytes:
    """One member of 200 MB that claims 4 bytes."""
    data = bytearray(zip_of([("cat/1.png", bytes(200 * 2**20))]))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 4)
    return bytes(data)


def other_names_zip(name: bytes, utf8: bool) -> bytes:
    data = bytearray(zip_of([("x" * len(name), png(1))]))
    for place, flags in ((data.index(b"PK\x03\x04"), 6), (data.index(b"PK\x01\x02"), 8)):
        struct.pack_into("<H", data, place + flags, 0x800 if utf8 else 0)
    return bytes(data).replace(b"x" * len(name), name)


def zip_link() -> bytes:
    info = zipfile.ZipInfo("cat/1.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zip_of([(info, b"/etc/passwd")])


def damaged_tar() -> bytes:
    """The second of two headers is spoiled: Python's reader alone would take that for the end."""
    data = bytearray(tar_of(SOUND))
    data[1024 + 3] ^= 1
    return bytes(data)


def zeros(count: int = 4) -> list[tuple[str, bytes]]:
    """What packs to nearly nothing."""
    return [(f"cat/{n}.png", bytes(2**20)) for n in range(count)]


def folders(count: int = 20) -> list[tuple[str, bytes]]:
    return [(f"cat/{n}/", b"") for n in range(count)]


def twice_in_zip() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zip_of([("cat/1.png", png(1)), ("cat/1.png", png(2))])


def large_sparse(folder: Path) -> dict[str, str]:
    """A tar with one member of 300 MiB, which takes no room on the disk."""
    info = tarfile.TarInfo("cat/1.png")
    info.size = 300 * 2**20
    path = written(folder / "large.tar", info.tobuf())
    os.truncate(path, 512 + info.size + 1024)
    return {"path": str(path)}


REFUSED = "; pack plain files only"
ARCHIVES = {
    **{
        f"{form} bomb by {what}": Case(make, says, caps={cap: most})
        for form, packed in (
            ("zip", lambda files: file("a.zip", lambda: zip_of(files))),
            ("tar", lambda files: file("a.tar.gz", lambda: gzip.compress(tar_of(files)))),
        )
        for what, cap, most, make, says in (
            (
                "ratio",
                "HARMLESS_BYTES",
                2**20,
                packed(zeros()),
                r"a\.(zip|tar\.gz) swells more than 100 times",
            ),
            ("size", "MAX_BYTES", 2**20, packed(zeros()), r"a\.(zip|tar\.gz) holds more than 0 GiB"),
            ("count", "MAX_MEMBERS", 10, packed(folders()), r"a\.(zip|tar\.gz) holds more than 10 files"),
        )
    },
    "tar member too large": Case(large_sparse, r"large\.tar: member 'cat/1\.png' is larger than 256 MiB"),
    "zip that lies about a size": Case(file("a.zip", lying_zip), r"a\.zip is not a whole archive"),
    "zip by another method": Case(
        file("a.zip", zip_of(SOUND, zipfile.ZIP_LZMA)),
        r"member 'dog/0\.png' is not packed by the usual method",
    ),
    "tar that leads up": Case(
        file("a.tar", tar_of([("../1.png", png(1))])),
        r"a\.tar: member '\.\./1\.png' has a name that leads out",
    ),
    "tar from the root": Case(
        file("a.tar", tar_of([("/etc/1.png", png(1))])), r"member '/etc/1\.png' has a name that leads out"
    ),
    "tar with a link out": Case(
        file("a.tar", tar_of(SOUND, member("cat/x.png", tarfile.SYMTYPE, "/etc/passwd"))),
        r"a\.tar: member 'cat/x\.png' is a link",
    ),
    "tar with a hard link out": Case(
        file("a.tar", tar_of(SOUND, member("cat/x.png", tarfile.LNKTYPE, "../../etc/passwd"))),
        r"a\.tar: member 'cat/x\.png' is a link",
    ),
    "tar with a device": Case(
        file("a.tar", tar_of(SOUND, member("cat/x.png", tarfile.CHRTYPE))),
        r"'cat/x\.png' is a link, a device",
    ),
    "tar with a pipe": Case(
        file("a.tar", tar_of(SOUND, member("cat/x.png", tarfile.FIFOTYPE))),
        r"'cat/x\.png' is a link, a device",
    ),
    "tar with a damaged header": Case(file("a.tar", damaged_tar()), r"a\.tar is not a whole archive.*again"),
    "tar without its end": Case(
        file("a.tar", tar_of(SOUND)[: 1024 * 2]), r"a\.tar is not a whole archive.*pack or copy it again"
    ),
    "zip that leads up": Case(
        file("a.zip", zip_of([("../1.png", png(1))])),
        r"a\.zip: member '\.\./1\.png' has a name that leads out",
    ),
    "zip with a link": Case(file("a.zip", zip_link()), r"a\.zip: member 'cat/1\.png' is a link"),
    "encrypted zip": Case(file("a.zip", encrypted_zip()), r"a\.zip: member 'dog/0\.png' is encrypted"),
    "truncated zip": Case(file("a.zip", zip_of(SOUND)[:-30]), r"a\.zip is not a whole archive.*again"),
    "truncated tar.xz": Case(
        file("a.tar.xz", lzma.compress(tar_of(SOUND))[:-60]), r"a\.tar\.xz is not a whole archive.*again"
    ),
    "text named zip": Case(file("a.zip", "hello"), r"a\.zip is not a whole archive"),
    "zip with a name twice": Case(file("a.zip", twice_in_zip), r"a\.zip: member 'cat/1\.png' stands twice"),
    "tar with a name twice": Case(
        file("a.tar", tar_of([*SOUND, ("./cat/1.png", png(9))])), r"a\.tar: member 'cat/1\.png' stands twice"
    ),
    "zip with a name of another code page": Case(
        file("a.zip", other_names_zip(b"caf\x82/1.png", utf8=False)),
        r"a\.zip: member 'café/1\.png' has a name",
    ),
    "zip with a name that is no UTF-8": Case(
        file("a.zip", other_names_zip(b"caf\xe9/1.png", utf8=True)),
        r"a\.zip is not a whole archive \(.*utf-8",
    ),
    "tar with a name that is no UTF-8": Case(
        file("a.tar", tar_of([("caf\udce9/1.png", png(1))])), r"file name 'caf\\udce9.*' is not UTF-8; rename"
    ),
    "empty zip": Case(file("a.zip", zip_of([])), r"source\.path: .*a\.zip has no rows to train on"),
    "empty tar.gz": Case(file("a.tgz", gzip.compress(tar_of([]))), r"a\.tgz has no rows to train on"),
    "archive without an image": Case(
        file("a.zip", zip_of([("data.csv", b"text,label\n")])),
        r"a\.zip holds no image .*first file: data\.csv",
    ),
    "archive in an archive": Case(
        file("a.zip", zip_of([("photos.tar", tar_of(SOUND))])), r"a\.zip holds no image .*unpack it"
    ),
    "archive of one class": Case(
        file("a.zip", zip_of([(f"cat/{n}.png", png(n)) for n in range(40)])),
        "the training rows have only the class 'cat'.*source",
        "preprocess",
    ),
}


# --- images -----------------------------------------------------------------------------------------------

JPG = encoded(Image.fromarray(noise(7, (60, 60, 3))), "JPEG")


def huge_png(side: int = 100_000) -> bytes:
    """A header that claims so many pixels a side, and next to no data."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [header, data, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def long_gif(frames: int = 100_000) -> bytes:
    """One sound frame, repeated: 20 bytes each."""
    gif = encoded(Image.new("L", (1, 1)), "GIF")
    start = gif.index(b",")
    return gif[:start] + gif[start:-1] * frames + b";"


def odd_tiff() -> bytes:
    """Its tag says JPEG 2000, which no plain decoder of TIFF reads."""
    data = bytearray(encoded(Image.fromarray(noise(3)), "TIFF"))
    entry = struct.pack("<HHI", 259, 3, 1)
    struct.pack_into("<H", data, data.index(entry) + 8, 34_712)
    return bytes(data)


SLOPE = (np.arange(20 * 30)[:, None] * [0.4, 0.3, 0.2]).reshape(20, 30, 3).astype(np.uint8)


def rotated() -> bytes:
    note = Image.Exif()
    note[0x0112] = 6
    return encoded(Image.fromarray(SLOPE), "JPEG", quality=95, exif=note)


def see_through() -> bytes:
    image = Image.fromarray(noise(6)).convert("P")
    return encoded(image, "PNG", transparency=bytes(range(256)))


# An image that cannot be used is left out with its name and this reason.
LEFT_OUT = {
    "text.jpg": (b"hello", "not an image"),
    "cut.jpg": (JPG[: len(JPG) // 2], "broken image"),
    "cut.png": (encoded(Image.fromarray(noise(8, (60, 60))), "PNG")[:-100], "broken image"),
    "empty.png": (b"", "no image"),
    "huge.png": (huge_png(), "image too large"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image"),
    "page.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "no image"),
    "page.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image"),
    "odd.tiff": (odd_tiff(), "(not an|broken) image"),
}
# These are read as they are meant.
USED = {
    "cmyk.jpg": encoded(Image.fromarray(noise(1, (12, 12, 4)), "CMYK"), "JPEG"),
    "sixteen.png": encoded(Image.fromarray(noise(2, kind=np.uint16)), "PNG"),
    "seethrough.png": see_through(),
    "turned.jpg": rotated(),
    "film.gif": long_gif(),
    "x" * 200 + ".png": png(99),
}
IMAGES = {
    "nothing but texts named jpg": Case(
        lambda folder: image_folder(folder, {f"{'ab'[n % 2]}/{n}.jpg": b"hello" for n in range(4)}),
        "no row of 0 is left.*dropped: 4 not an image",
        "preprocess",
    ),
    "no image at all": Case(
        lambda folder: image_folder(folder, {"cat/notes.txt": b"hello"}),
        r"photos holds no image .*notes\.txt",
    ),
    "an empty folder": Case(
        lambda folder: image_folder(folder, {".hidden": b""}), "photos has no rows to train on"
    ),
    "images in no class": Case(
        lambda folder: image_folder(folder, {f"{n}.png": png(n) for n in range(9)}),
        "dropped: 9 missing label",
        "preprocess",
    ),
}


# --- tables -----------------------------------------------------------------------------------------------


def spoiled(row: int, **values: Any) -> list[Any]:
    return [sound | values if number == row else sound for number, sound in enumerate(table(), start=1)]


def without(key: str) -> list[Any]:
    return [{k: v for k, v in row.items() if k != key} for row in table()]


def every(**values: Any) -> list[Any]:
    return [row | values for row in table()]


def line_of(row: int, line: str) -> str:
    return jsonl([line if number == row else sound for number, sound in enumerate(table(), start=1)])


CSV = csv(table())
TABLES = {
    "csv: a quote never closed": Case(
        file("a.csv", CSV + '"open,a\nx,b\n'), r"a\.csv:row 41: .*never closed"
    ),
    "csv: too many fields": Case(file("a.csv", CSV + "a,b,c\n"), r"a\.csv:row 41: 3 fields.*put quotes"),
    "csv: too few fields": Case(file("a.csv", CSV + "alone\n"), r"a\.csv:row 41: 1 fields.*header names 2"),
    "csv: no such column, but one like it": Case(
        file("a.csv", CSV.replace("label", "Labels")),
        r"a\.csv has no column 'label'.*set source\.label to 'Labels'",
    ),
    "csv: a column twice": Case(
        file("a.csv", "text,label,note,note\na,b,c,d\n"), r"a\.csv: two columns are named 'note'; rename"
    ),
    "csv: a NUL": Case(file("a.csv", CSV + "a\0b,a\n"), r"a\.csv: line 42 has a NUL character; save"),
    "csv: UTF-16": Case(file("a.csv", CSV.encode("utf-16")), r"a\.csv: not UTF-8 text in line 1; save it"),
    "csv: UTF-16 without a mark": Case(file("a.csv", CSV.encode("utf-16-le")), r"a\.csv: line 1 has a NUL"),
    "csv: Latin-1": Case(
        file("a.csv", CSV.encode() + "café,a\n".encode("latin-1")),
        r"a\.csv: not UTF-8 text in line 42; save it",
    ),
    "csv: empty": Case(file("a.csv", ""), r"a\.csv is empty; its first line must name the columns"),
    "csv: only a header": Case(file("a.csv", "text,label\n"), r"a\.csv has no rows to train on"),
    "csv: no usable row": Case(
        file("a.csv", "text,label\n" + " ,a\n,b\n" * 5),
        "no row of 0 is left.*dropped: 10 empty text",
        "preprocess",
    ),
    "csv: one class": Case(
        file("a.csv", csv(every(label="a"))), "only the class 'a'.*check source.label", "preprocess"
    ),
    "csv: no label anywhere": Case(
        file("a.csv", csv(every(label=""))), "no row of 0 is left.*dropped: 40 missing label", "preprocess"
    ),
    "csv: labels of white space": Case(
        file("a.csv", csv(every(label="  "))), "no row of 0 is left.*dropped: 40 missing label", "preprocess"
    ),
    "csv: a text of 17 MB": Case(
        file("a.csv", lambda: ("text,label\n" + "a" * 17 * 2**20 + ",b\n").encode()),
        r"a\.csv: line 2 has more than",
    ),
    "csv: a quote never closed before 17 MB": Case(
        file("a.csv", lambda: ('text,label\n"' + ("a" * 99 + "\n") * 180_000).encode()),
        r"a\.csv:row 1: .*never closed",
    ),
    "csv: semicolons": Case(
        file("a.csv", CSV.replace(",", ";")), r"a\.csv has no column 'label'.*must be separated by commas"
    ),
    "csv: tabs": Case(
        file("a.csv", CSV.replace(",", "\t")), r"has no column 'label'.*separated by commas.*\.tsv by tabs"
    ),
    "csv: several labels in one": Case(
        file("a.csv", CSV + "x,a|b\n", label_separator="|"),
        r"a\.csv:row 41 has 2 labels.*task\.multi_label",
        "preprocess",
    ),
    "csv: no such class": Case(
        file("a.csv", CSV, classes=["a", "c"]), "source.classes: no row has the class 'c'"
    ),
    "jsonl: no JSON": Case(
        file("a.jsonl", line_of(7, '{"text": "a"')), r"a\.jsonl:row 7: not JSON.*one whole object"
    ),
    "jsonl: a list": Case(file("a.jsonl", line_of(7, "[1]")), r"a\.jsonl:row 7: a list, not an object"),
    "jsonl: a whole file that is one list": Case(
        file("a.jsonl", json.dumps(table(), indent=1)), r"a\.jsonl:row 1: not JSON.*one whole object"
    ),
    "jsonl: NaN": Case(
        file("a.jsonl", line_of(7, '{"text": NaN, "label": "a"}')),
        r"a\.jsonl:row 7: .*NaN is no number; write null",
    ),
    "jsonl: Infinity": Case(
        file("a.jsonl", line_of(7, '{"text": "a", "label": -Infinity}')),
        r"row 7: .*-Infinity is no number; write null",
    ),
    "jsonl: a number beyond all bounds": Case(
        file("a.jsonl", line_of(7, '{"text": 1e999, "label": "a"}')),
        r"a\.jsonl:row 7: column 'text' holds an infinite",
    ),
    "jsonl: a number of 5,000 digits": Case(
        file("a.jsonl", line_of(7, '{"text": "a", "label": %s}' % ("9" * 5000))), r"a\.jsonl:row 7: not JSON"
    ),
    "jsonl: deep nesting": Case(
        file("a.jsonl", line_of(7, '{"text": ' + "[" * 100_000 + "}")), r"a\.jsonl:row 7: not JSON"
    ),
    "jsonl: a key twice": Case(
        file("a.jsonl", line_of(7, '{"text": "a", "label": "b", "label": "a"}')),
        r"row 7: .*key 'label' stands twice",
    ),
    "jsonl: half a character": Case(
        file("a.jsonl", line_of(7, '{"text": "\\ud800", "label": "a"}')),
        r"row 7: column 'text' holds half a character",
    ),
    "jsonl: Latin-1": Case(
        file("a.jsonl", jsonl(table()).encode() + b'{"text": "\xe9"}'),
        r"a\.jsonl:row 41: not UTF-8 text; save",
    ),
    "jsonl: no label in any row": Case(
        file("a.jsonl", jsonl(without("label"))), r"a\.jsonl has no column 'label'.*set source\.label"
    ),
    "jsonl: a text that is a list": Case(
        file("a.jsonl", jsonl(spoiled(7, text=["a"]))), r"a\.jsonl:row 7: column 'text' holds a list"
    ),
    "jsonl: mixed kinds of labels": Case(
        file("a.jsonl", jsonl(spoiled(7, label={"name": "a"}))),
        r"a\.jsonl:row 7: column 'label' holds a dict",
    ),
    "jsonl: a label with a fraction": Case(
        file("a.jsonl", jsonl(spoiled(7, label=0.5))),
        r"a\.jsonl:row 7: column 'label' holds 0\.5.*whole number",
    ),
    "jsonl: an image outside": Case(
        file("a.jsonl", jsonl([{"image": "../../etc/passwd", "label": "a"}])),
        r"a\.jsonl: column 'image' names",
    ),
    "jsonl: a line of 17 MB": Case(
        file("a.jsonl", lambda: b'{"text": "' + b"a" * 17 * 2**20 + b'", "label": "a"}'),
        r"a\.jsonl:row 1: more than",
    ),
    "parquet: truncated": Case(
        file("a.parquet", parquet({"text": ["a"] * 99, "label": ["a"] * 99})[:-50]),
        r"a\.parquet is not a whole Parquet",
    ),
    "parquet: encrypted": Case(
        file("a.parquet", b"PARE" + bytes(100) + b"PARE"), r"a\.parquet is not a whole Parquet"
    ),
    "parquet: text of bytes": Case(
        file("a.parquet", parquet({"text": [b"a"], "label": ["a"]})),
        r"a\.parquet:row 1: column 'text' holds a bytes",
    ),
    "parquet: nested text": Case(
        file("a.parquet", parquet({"text": [{"en": "a"}], "label": ["a"]})),
        r"row 1: column 'text' holds a dict",
    ),
    "parquet: labels with a fraction": Case(
        file("a.parquet", parquet({"text": ["a", "b"], "label": [1.0, 0.5]})),
        r"row 2: column 'label' holds 0\.5",
    ),
    "parquet: labels that are all NaN": Case(
        file("a.parquet", parquet({"text": list("abcd"), "label": [float("nan")] * 4})),
        "no row of 0 is left.*dropped: 4 missing label",
        "preprocess",
    ),
    "parquet: text that is no UTF-8": Case(
        file("a.parquet", lambda: not_utf8_parquet()), r"a\.parquet: column 'text' cannot be read"
    ),
    "parquet: no such column": Case(
        file("a.parquet", parquet({"texts": ["a"], "label": ["a"]})),
        r"no column 'text'.*set source\.text to 'texts'",
    ),
}


def not_utf8_parquet() -> bytes:
    text = pa.array([b"caf\xe9", b"x"]).view(pa.string())
    return parquet({"text": text, "label": ["a", "b"]})


# What looks odd and is not: the number of rows that come in.
FINE = {
    "csv: a mark of UTF-8 in front": (file("a.csv", b"\xef\xbb\xbf" + CSV.encode()), 40),
    "csv: lines inside quotes": (file("a.csv", CSV + '"one\ntwo, ""three""",a\r\n'), 41),
    "csv: columns without a name": (file("a.csv", "text,label,,\na,b,,\nc,d,,\n"), 2),
    "jsonl: numbers as text": (file("a.jsonl", jsonl(spoiled(7, text=7, label=1))), 40),
    "jsonl: a row without a label": (file("a.jsonl", line_of(7, '{"text": "a"}')), 40),
    "parquet: dictionaries and large strings": (
        file(
            "a.parquet",
            parquet(
                {
                    "text": pa.array(["a", "b"], pa.large_string()),
                    "label": pa.array(["x", "y"]).dictionary_encode(),
                }
            ),
        ),
        2,
    ),
    "zip: a name of 300 characters": (file("a.zip", zip_of([(f"cat/{'x' * 300}.png", png(1)), *SOUND])), 5),
    "zip: names that differ in case": (
        file("a.zip", zip_of([("cat/A.png", png(8)), ("cat/a.png", png(9))])),
        2,
    ),
    "zip: UTF-8 names without the mark": (
        file("a.zip", other_names_zip("café/1.png".encode(), utf8=False)),
        1,
    ),
    "zip: a folder and a table beside the images": (
        file("a.zip", zip_of([*SOUND, ("cat/", b""), ("a.csv", b"")])),
        5,
    ),
}


# --- paths ------------------------------------------------------------------------------------------------


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


# --- settings ---------------------------------------------------------------------------------------------


def text(content: str | bytes) -> Maker:
    return lambda _: content


def laughs() -> str:
    lines = ["source:", "- &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines)


SETTINGS = {
    name: Case(text(content), says, "resolve")
    for name, content, says in (
        (
            "yaml: indent",
            "training:\n  epochs: 1\n seed: 2\n",
            r"recipes/bad\.yaml: not valid YAML in line 3",
        ),
        ("yaml: a tab", "training:\n\tepochs: 1\n", r"recipes/bad\.yaml: not valid YAML in line 2"),
        ("yaml: empty", "", r"recipes/bad\.yaml: expected sections.*found None"),
        ("yaml: a list", "- training\n", r"recipes/bad\.yaml: expected sections"),
        (
            "yaml: a section twice",
            "training: {epochs: 1}\ntraining: {seed: 1}\n",
            r"recipes/bad\.yaml: not valid YAML in line 2: 'training' stands twice",
        ),
        (
            "yaml: a key twice",
            "training:\n  epochs: 1\n  epochs: 2\n",
            r"recipes/bad\.yaml: not valid YAML in line 3: 'epochs' stands twice",
        ),
        (
            "yaml: an unknown section",
            "trainin: {epochs: 1}\n",
            "unknown section 'trainin'; did you mean 'training'",
        ),
        ("yaml: a section that is a number", "1: {epochs: 1}\n", "unknown section '1'"),
        (
            "yaml: a section that holds a number",
            "training: 3\n",
            "section 'training' must hold settings, found 3",
        ),
        (
            "yaml: an unknown key",
            "training: {epoch: 1}\n",
            r"unknown setting training\.epoch; did you mean 'epochs'",
        ),
        ("yaml: a key that is a number", "training: {1: 1}\n", r"setting training\.1"),
        ("yaml: a wrong type", "training: {epochs: many}\n", r"setting training\.epochs: .*got 'many'"),
        ("yaml: a number beyond its bounds", "split: {test: 1.5}\n", r"setting split\.test: .*less than 1"),
        (
            "yaml: no number",
            "training: {learning_rate: .nan}\n",
            r"setting training\.learning_rate: .*finite",
        ),
        (
            "yaml: a date that is none",
            "registry: {name: 2024-13-01}\n",
            r"recipes/bad\.yaml: not valid YAML in line 1: '2024-13-01'",
        ),
        ("yaml: a billion laughs", laughs(), r"the alias \*a0 in line 3 is not read; write it out"),
        ("yaml: an alias of itself", "training: &a [*a]\n", r"the alias \*a in line 1 is not read"),
        ("yaml: deep nesting", "training: " + "[" * 50_000, "more than 20 levels deep in line 1"),
        (
            "yaml: code",
            "training: !!python/object/apply:os.system ['touch pwned']\n",
            r"recipes/bad\.yaml: not valid YAML in line 1: could not",
        ),
        ("yaml: Latin-1", "registry: {name: café}\n".encode("latin-1"), "not UTF-8 text; save it as UTF-8"),
        (
            "yaml: control characters",
            "training: {epochs: \x07}\n",
            r"recipes/bad\.yaml: not valid YAML: .*control characters",
        ),
        ("yaml: two megabytes", "#" * 2**21, "more than 1,048,576 characters"),
        (
            "yaml: two documents",
            "training: {}\n---\nsplit: {}\n",
            r"recipes/bad\.yaml: not valid YAML in line 2: expected a single document",
        ),
    )
}


# --- weights and models -----------------------------------------------------------------------------------

HIDDEN = 6


def tensors(**more: np.ndarray) -> dict[str, np.ndarray]:
    """Those of family mlp for 8 × 8 grey pixels and one hidden layer; `more` replaces or adds some."""
    draw = np.random.default_rng(0)
    sound = {"0.weight": draw.normal(size=(HIDDEN, 64)), "0.bias": np.zeros(HIDDEN)}
    return {name: value.astype(np.float32) for name, value in (sound | more).items()}


SOUND_WEIGHTS = save(tensors())


def weights(name: str, content: bytes, **backbone: str) -> Maker:
    """A recipe that starts from the file."""

    def make(folder: Path) -> str:
        path = written(folder / name, content)
        settings = {"family": "mlp", "hidden": [HIDDEN], "weights": str(path), **backbone}
        task = {"kind": "image_classification", "size": 8, "channels": 1}
        return json.dumps({"task": task, "backbone": settings, "training": {"strategy": "full"}})

    return make


def pickled_directory(folder: Path) -> str:
    recipe = weights("net/pytorch_model.bin", pickle.dumps({"a": 1}))(folder)
    return recipe.replace("/pytorch_model.bin", "")


def header(content: str, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content.encode()


WEIGHTS = {
    "weights: another sha256": Case(
        weights("net.safetensors", SOUND_WEIGHTS, weights_sha256="0" * 64),
        r"backbone\.weights: .*net\.safetensors has sha256 [0-9a-f]{64}, but .*restore the file",
        "resolve",
    ),
    "weights: a pickle by name": Case(
        weights("net.pt", pickle.dumps({"a": 1})), r"net\.pt is not a \.safetensors file; pickled", "resolve"
    ),
    "weights: a directory of pickles": Case(
        pickled_directory, r"backbone\.weights: .*/net holds no \.safetensors file; weights can be", "resolve"
    ),
    "weights: not there": Case(
        weights("net.safetensors", b"", weights="/no/where.safetensors"),
        r"/no/where\.safetensors does not exist",
        "resolve",
    ),
    **{
        f"weights: {name}": Case(
            weights("net.safetensors", content),
            r"net\.safetensors is no whole \.safetensors file .*again",
            "resolve",
        )
        for name, content in {
            "empty": b"",
            "header cut short": SOUND_WEIGHTS[:40],
            "values cut short": SOUND_WEIGHTS[:-4],
            "more than the header says": SOUND_WEIGHTS + b"more",
            "a header of a terabyte": header("{}", 2**40),
            "a tensor of a terabyte": header(
                '{"a":{"dtype":"F32","shape":[274877906944],"data_offsets":[0,1099511627776]}}'
            ),
            "a pickle inside": pickle.dumps({"a": np.zeros(9)}),
            "no JSON inside": header("not JSON"),
        }.items()
    },
    "weights: NaN": Case(
        weights("net.safetensors", save(tensors(**{"0.bias": np.full(HIDDEN, np.nan)}))),
        r"backbone\.weights: 0\.bias holds values that are no numbers; choose other weights",
        "train",
    ),
    "weights: another shape": Case(
        weights("net.safetensors", save(tensors(**{"0.bias": np.zeros(7)}))),
        r"do not fit this architecture: they have another shape of 0\.bias; check",
        "train",
    ),
    "weights: a tensor too many": Case(
        weights("net.safetensors", save(tensors(**{"9.bias": np.zeros(7)}))),
        r"do not fit this architecture: they have unknown 9\.bias; check",
        "train",
    ),
    "weights: a tensor too few": Case(
        weights("net.safetensors", save({"0.bias": np.zeros(HIDDEN, np.float32)})),
        r"do not fit this architecture: they lack 0\.weight; check",
        "train",
    ),
}


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(model: Path) -> None:
        content = (model / name).read_text()
        assert old in content
        (model / name).write_text(content.replace(old, new))

    return edit


def flipped(model: Path) -> None:
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "model.safetensors").write_bytes(data)


def linked(model: Path) -> None:
    (model / "extra.txt").symlink_to(written(model.parent / "secret.txt", "secret"))


def dangling(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("/no/where")


# Each spoils a sound model directory.
MODELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "model: altered weights": (flipped, r"model/model\.safetensors was altered.*make the step again"),
    "model: an altered description": (
        edited("model.json", '"mlp"', '"timm"'),
        r"model/model\.json was altered",
    ),
    "model: an altered manifest": (
        edited("manifest.json", '"model_sha256": "', '"model_sha256": "0'),
        r"manifest\.json was altered: model_sha256 is not its files' digest; train again",
    ),
    "model: a manifest that is no JSON": (
        edited("manifest.json", "{", ""),
        r"manifest\.json was altered: it is no JSON",
    ),
    "model: no manifest": (lambda model: (model / "manifest.json").unlink(), r"manifest\.json is missing"),
    "model: a newer format": (
        edited("manifest.json", '"format_version": 1', '"format_version": 99'),
        r"has model format 99, this version reads 1; read it with retrainer",
    ),
    "model: another kind": (
        edited("manifest.json", '"kind": "model"', '"kind": "dataset"'),
        "holds a 'dataset', not a 'model'",
    ),
    "model: a link to another file": (linked, r"model/extra\.txt does not belong"),
    "model: a link to nowhere": (dangling, r"model/model\.safetensors is missing"),
    "model: a pickle beside": (
        lambda model: (model / "model.pkl").touch(),
        r"model/model\.pkl does not belong",
    ),
}
