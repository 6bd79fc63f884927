"""The plain files of a folder or an archive, by name: what sources of annotated images read from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from retrainer.data.sources import _archives
from retrainer.data.sources._values import MAX_IMAGE_BYTES
from retrainer.errors import DataError, SettingError
from retrainer.settings import Source

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
_JUNK = {"thumbs.db", "desktop.ini", "__macosx"}


@dataclass(frozen=True)
class Tree:
    """`entries`: a file's name inside `root` → its bytes (archive) or its path (folder)."""

    root: Path
    entries: dict[PurePosixPath, bytes | Path]

    def __contains__(self, name: PurePosixPath) -> bool:
        return name in self.entries

    def read(self, name: PurePosixPath, most: int = MAX_IMAGE_BYTES) -> bytes:
        """Raises UserError for a file of more than `most` bytes."""
        where = self.entries[name]
        if isinstance(where, bytes):
            return where
        if where.stat().st_size > most:
            raise DataError(f"{where} is larger than {most // 2**20} MiB; make it smaller")
        return where.read_bytes()

    def title(self, name: PurePosixPath) -> str:
        """The file as people find it, without the path of this machine."""
        return f"{self.root.name}{'/' if self.root.is_dir() else ':'}{utf8_name(str(name))}"


def tree_of(source: Source) -> Tree:
    """All files of `source.path`. Raises UserError when it is no folder or archive, or a link leads out."""
    root = _root(source)
    if root.is_dir():
        return Tree(root, dict(walk(root)))
    members = ((name, data) for name, data in _archives.members(root) if not is_junk(name))
    return Tree(root, dict(members))


def source_files(source: Source) -> list[Path]:
    """The archive itself, or every file of the folder."""
    root = _root(source)
    return [path for _, path in walk(root)] if root.is_dir() else [root]


def inside(folder: PurePosixPath, name: str, file: str) -> PurePosixPath:
    """`name`, which `file` mentions, below `folder`. Raises UserError for a name that leads out of it."""
    path = PurePosixPath(name)
    windows = "\\" in name or (len(name) > 1 and name[1] == ":")
    if not name or path.is_absolute() or ".." in path.parts or windows or "\0" in name:
        raise DataError(
            f"{file}: {name[:100]!r} is no file inside its folder; name the file relative to {folder}"
        )
    return folder / path


def _root(source: Source) -> Path:
    if source.test_path:
        raise SettingError(
            f"source.test_path has no meaning with source.kind {source.kind}; name the own test list in"
            " source.test"
        )
    if not source.path:
        raise SettingError(f"source.path is empty; name the folder or archive that {source.kind} reads")
    root = Path(source.path)
    if root.is_dir() or (root.is_file() and _archives.is_archive(source.path)):
        return root
    state = "is no folder or archive" if root.exists() else "does not exist"
    raise SettingError(
        f"source.path: {source.path} {state}; give a folder or one of {', '.join(_archives.SUFFIXES)}"
    )


def walk(root: Path) -> Iterator[tuple[PurePosixPath, Path]]:
    """Every plain file below `root` in the order of names; links out of it and special files are refused."""
    real = root.resolve()
    for folder, subfolders, names in os.walk(root, onerror=_raise):
        subfolders[:] = sorted(name for name in subfolders if not is_junk(PurePosixPath(name)))
        linked = [name for name in subfolders if Path(folder, name).is_symlink()]
        for name in [*linked, *sorted(name for name in names if not is_junk(PurePosixPath(name)))]:
            path = Path(folder, name)
            if not path.is_file() or (path.is_symlink() and not path.resolve().is_relative_to(real)):
                raise DataError(
                    f"{path} is no plain file, or a link out of {root}; copy the files it stands for"
                )
            yield PurePosixPath(path.relative_to(root).as_posix()), path


def _raise(error: OSError) -> None:
    raise error


def is_junk(name: PurePosixPath) -> bool:
    return any(part.startswith(".") or part.lower() in _JUNK for part in name.parts)


def utf8_name(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"the file name {name!r} is not UTF-8; rename it") from None
    return name
