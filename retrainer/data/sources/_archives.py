"""The files inside a .zip or .tar[.gz|.xz], read in memory: nothing is ever unpacked onto the disk.

Refused, with the member's name: names that lead out of the archive, are no UTF-8 or stand twice; links,
devices, encrypted members. Capped: number of members (folders too), size of one, size of all, and how far the
whole may swell when unpacked.
"""

from __future__ import annotations

import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self, cast

from retrainer.data.memory import budget_bytes
from retrainer.data.sources._values import MAX_ANNOTATION_BYTES, MAX_IMAGE_BYTES
from retrainer.errors import DataError, UserError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")
MAX_MEMBERS = 5_000_000
MAX_BYTES = 64 * 2**30
# Photos hardly shrink when packed. What swells more than this is a bomb, if it is large at all.
MAX_SWELLING = 100
HARMLESS_BYTES = 256 * 2**20

Member = tuple[PurePosixPath, bytes]
# Python's readers of the others unpack as much as there is, whatever size the archive declares.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZIP_NAME_IS_UTF8 = 0x800
# What the standard library's readers raise on damaged bytes.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    IndexError,
    NotImplementedError,
)


def is_archive(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def members(path: Path) -> Iterator[Member]:
    """Name and bytes of every plain file. Raises UserError for what is refused, capped or broken."""
    read = _zip_members if path.name.lower().endswith(".zip") else _tar_members
    seen = set()
    try:
        for name, content in read(path):
            if name in seen:
                raise _refused(path, str(name), "stands twice in it")
            seen.add(name)
            yield name, content
    except UserError:
        raise
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{path.name} is not a whole archive ({reason}); pack or copy it again") from None


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        total = 0
        for count, info in enumerate(archive.infolist(), start=1):
            _check_count(path, count)
            name = _safe_name(path, _zip_name(path, info))
            if info.is_dir():
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise _refused(path, info.filename, "is a link or a device")
            if info.flag_bits & 1:
                raise _refused(path, info.filename, "is encrypted")
            if info.compress_type not in _ZIP_METHODS:
                raise _refused(path, info.filename, "is not packed by the usual method, deflate")
            total += info.file_size
            _check_size(path, info.filename, info.file_size)
            _check_total(path, total)
            with archive.open(info) as member:
                # One byte more than declared: never all that a lying header hides, and the checksum is read.
                yield name, member.read(info.file_size + 1)


def _zip_name(path: Path, info: zipfile.ZipInfo) -> str:
    """The name, if it is UTF-8: macOS writes that without the flag which says so."""
    if info.flag_bits & _ZIP_NAME_IS_UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        raise _refused(path, info.filename, "has a name that is not UTF-8") from None


def _tar_members(path: Path) -> Iterator[Member]:
    with path.open("rb") as packed, _unpacked(packed) as plain:
        stream = _Capped(plain, path)
        # `r|` reads strictly forward, through the capped stream alone.
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|", tarinfo=_Strict) as archive:
            for count, info in enumerate(archive, start=1):
                _check_count(path, count)
                name = _safe_name(path, info.name)
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise _refused(path, info.name, "is a link, a device or sparse")
                _check_size(path, info.name, info.size)
                content = archive.extractfile(info)
                assert content is not None
                yield name, content.read()


class _Strict(tarfile.TarInfo):
    """The standard library takes a damaged or missing header for the end of the archive, without a word."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"the header of a member is no header: {error}") from None


def _unpacked(packed: BinaryIO) -> BinaryIO:
    magic = packed.read(6)
    packed.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=packed))
    if magic == b"\xfd7zXZ\x00":
        return cast(BinaryIO, lzma.LZMAFile(packed))
    return packed


class _Capped:
    """A stream that ends in a UserError once more came out of it than the archive may hold."""

    def __init__(self, inner: BinaryIO, path: Path) -> None:
        self._inner, self._path, self._total = inner, path, 0

    def read(self, size: int) -> bytes:
        data = self._inner.read(size)
        self._total += len(data)
        _check_total(self._path, self._total)
        return data


def _safe_name(path: Path, name: str) -> PurePosixPath:
    pure = PurePosixPath(name)
    windows = "\\" in name or (len(name) > 1 and name[1] == ":")
    if pure.is_absolute() or ".." in pure.parts or windows or "\0" in name:
        raise _refused(path, name, "has a name that leads out of the archive")
    return pure


def _refused(path: Path, name: str, why: str) -> UserError:
    return DataError(f"{path.name}: member {name[:100]!r} {why}; pack plain files only (tar: --dereference)")


def _check_count(path: Path, count: int) -> None:
    if count > MAX_MEMBERS:
        raise DataError(f"{path.name} holds more than {MAX_MEMBERS:,} files; pack it in parts")


def _check_size(path: Path, name: str, size: int) -> None:
    most = MAX_ANNOTATION_BYTES if name.lower().endswith(".json") else MAX_IMAGE_BYTES
    if size > most:
        raise _refused(path, name, f"is larger than {most // 2**20} MiB")


def _check_total(path: Path, total: int) -> None:
    most = min(MAX_BYTES, budget_bytes())
    if total > most:
        raise DataError(f"{path.name} holds more than {most / 2**30:.0f} GiB, the most for this machine")
    if total > HARMLESS_BYTES and total > MAX_SWELLING * path.stat().st_size:
        raise DataError(
            f"{path.name} swells more than {MAX_SWELLING} times when unpacked, as no set of photos does; "
            "if it is what you meant, unpack it and give the folder"
        )
