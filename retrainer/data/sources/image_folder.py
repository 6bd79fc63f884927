"""Images sorted into folders by class: a directory, a .zip or a .tar[.gz|.xz].

    <class>/<file>                            the usual layout; deeper folders belong to their class
    train/<class>/<file> and test/<class>/…   `test/` becomes the user's own test set; `val/`, `valid/`,
                                              `validation/` or `dev/` the user's own validation set

One folder around everything (as archives often have) is looked through. Hidden files are skipped; any other
file is a row, and one that no class folder holds or that is no image is dropped later, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from retrainer.data.sources import _archives
from retrainer.data.sources._columns import FILES_PER_CHUNK, encoded_array
from retrainer.data.sources._folders import IMAGE_SUFFIXES, is_junk, utf8_name, walk
from retrainer.data.sources._splits import (
    TEST,
    TRAIN,
    given_columns,
    is_split_name,
    refuse_two_tests,
    splits_of,
)
from retrainer.data.sources._values import MAX_IMAGE_BYTES
from retrainer.errors import DataError, SettingError
from retrainer.settings import Source

if TYPE_CHECKING:
    import pyarrow as pa

# A file's name inside the root, and where its bytes are: in memory (archive) or on the disk (directory).
Entry = tuple[PurePosixPath, bytes | Path]


def files(source: Source) -> list[Path]:
    """The archives, or every file of the directories."""
    found: list[Path] = []
    for root, _ in _roots(source):
        found += [path for _, path in walk(root)] if root.is_dir() else [root]
    return found


def labels_add_up(_: Source) -> bool:
    """A file in several class folders has the labels of them all, where a row may have several."""
    return True


def read(source: Source) -> Iterator[pa.Table]:
    """Tables in our columns. Raises UserError naming the archive's member or the file it refuses."""
    for root, given_test in _roots(source):
        entries: list[Entry] = [*walk(root)] if root.is_dir() else _archived(root)
        _check_images([name for name, _ in entries], root)
        # A licence or a note may lie anywhere: the images alone say what the folders are.
        images = [name for name, _ in entries if _is_image(name)]
        of_part = source.model_copy(update={"validation": ""}) if given_test else source
        layout = layout_of(images, root.name, of_part)
        if not given_test:
            check_layout(layout, images, root.name, source)
        for start in range(0, len(entries), FILES_PER_CHUNK):
            yield _table(entries[start : start + FILES_PER_CHUNK], root, layout, given_test)


def _check_images(names: list[PurePosixPath], root: Path) -> None:
    if names and not any(_is_image(name) for name in names):
        raise DataError(
            f"{root.name} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}); its first file: {names[0]}; "
            "archives and tables inside are not opened: unpack it and name what is meant"
        )


class Layout(NamedTuple):
    """`skip`: folders that stand around everything. `splits`: folder below them → its split; empty where
    these folders are classes."""

    skip: int
    splits: Mapping[str, str]


def layout_of(names: list[PurePosixPath], root: str, source: Source) -> Layout:
    """Raises UserError where folders of splits stand beside others."""
    skip = 0
    while _one_folder_around(names, skip):
        skip += 1
    folders = {name.parts[skip] for name in names if len(name.parts) > skip + 1}
    return Layout(skip, splits_of(folders, root, source))


def check_layout(layout: Layout, names: list[PurePosixPath], root: str, source: Source) -> None:
    """Raises UserError for a test set without training rows, and for two test sets."""
    around = [name.lower() for name in names[0].parts[: layout.skip]] if names else []
    if TEST in around and TRAIN not in around:
        raise DataError(f"{root} has test/ and no train/ beside it; give it as source.test_path")
    folders = {name.parts[layout.skip] for name in names if len(name.parts) > layout.skip + 1}
    if len(folders) > 1 and not layout.splits and all(map(is_split_name, folders)):
        raise DataError(
            f"{root} has {' and '.join(sorted(folders))} and no train/ beside them; add it, or name the"
            " folders in source.path and source.test_path"
        )
    refuse_two_tests(layout.splits.values(), root, source)


def _one_folder_around(names: list[PurePosixPath], skip: int) -> bool:
    deep_enough = bool(names) and all(len(name.parts) > skip + 2 for name in names)
    return deep_enough and len({name.parts[skip] for name in names}) == 1


def _roots(source: Source) -> list[tuple[Path, bool]]:
    roots = [(_root("source.path", source.path), False)]
    if source.test_path:
        roots.append((_root("source.test_path", source.test_path), True))
    return roots


def _root(setting: str, path: str) -> Path:
    root = Path(path)
    if root.is_dir() or (root.is_file() and _archives.is_archive(path)):
        return root
    state = "is no folder or archive" if root.exists() else "does not exist"
    raise SettingError(f"{setting}: {path} {state}; give a folder or one of {', '.join(_archives.SUFFIXES)}")


def _archived(root: Path) -> list[Entry]:
    # All in memory: which folders stand around the classes shows only after the last member.
    return [
        (name, data if _is_image(name) else b"")
        for name, data in _archives.members(root)
        if not is_junk(name)
    ]


def _is_image(name: PurePosixPath) -> bool:
    return name.suffix.lower() in IMAGE_SUFFIXES


def _table(entries: list[Entry], root: Path, layout: Layout, given_test: bool) -> pa.Table:
    import pyarrow as pa

    from retrainer.formats.dataset import SCHEMA

    images, labels, origins, splits = [], [], [], []
    for name, where in entries:
        parts = name.parts[layout.skip :] or name.parts[-1:]
        classes = parts[bool(layout.splits) : -1]
        images.append(_bytes(name, where))
        labels.append([utf8_name(classes[0])] if classes else None)
        origins.append(f"{root.name}{'/' if root.is_dir() else ':'}{utf8_name(str(name))}")
        splits.append(TEST if given_test else layout.splits.get(parts[0], TRAIN))
    return pa.table(
        {
            "image": encoded_array(images),
            "labels": pa.array(labels, SCHEMA["labels"]),
            "origin": pa.array(origins, pa.string()),
            **given_columns(splits),
        }
    )


def _bytes(name: PurePosixPath, where: bytes | Path) -> bytes | None:
    if isinstance(where, bytes):
        return where or None
    if not _is_image(name):
        return None
    if where.stat().st_size > MAX_IMAGE_BYTES:
        raise DataError(f"{where} is larger than {MAX_IMAGE_BYTES // 2**20} MiB; scale the image down")
    return where.read_bytes() or None
