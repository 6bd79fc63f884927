"""Archives: bombs, links, names that lead out, damage."""

from __future__ import annotations

import gzip
import lzma
import os
import stat
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

from tests.bad_inputs.bricks import Case, file, member, photos, png, tar_of, written, zip_of

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
        "'cat'.*check source.label",
        "preprocess",
    ),
}
