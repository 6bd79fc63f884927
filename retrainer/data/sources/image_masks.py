"""Images and, of the same name, masks: of which class each pixel is (folder, .zip or .tar[.gz|.xz]).

    images/NAME.jpg    an image of any format that Pillow opens
    masks/NAME.png     its mask, grey or with a palette, of the same size: a class's number in each pixel
    classes.txt        the classes' names, one a line: the first is that of number 0; or `source.names`

Both folders may be divided (train/images/… and train/masks/…, or images/train/… and masks/train/…): test/ is
your own test set; val/, valid/, validation/ or dev/ the own validation set. Pixels of the number
`source.ignore` are neither learned from nor judged; 255 counts where it has a name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from retrainer.data.sources._columns import FILES_PER_CHUNK, encoded_array
from retrainer.data.sources._folders import IMAGE_SUFFIXES, Tree, source_files, tree_of
from retrainer.data.sources._splits import TRAIN, given_columns
from retrainer.data.sources.image_folder import check_layout, layout_of
from retrainer.errors import DataError, SettingError
from retrainer.formats.masks import IGNORED
from retrainer.settings import Section, Source

if TYPE_CHECKING:
    import pyarrow as pa

NAMES_FILE = "classes.txt"
_MOST_NAMES_BYTES = 1 << 20
_VALUES = 256


class Options(Section):
    """Further keys of `source:` for this kind."""

    images: str = Field("images", min_length=1, description="name of the folder of images")
    masks: str = Field("masks", min_length=1, description="name of the folder of masks")
    names: tuple[str, ...] = Field(
        (), description=f"the classes' names, as [background, crack]; empty: those of {NAMES_FILE}"
    )
    values: tuple[int, ...] = Field(
        (), description="the pixels' numbers of source.names, as [0, 255]; empty: 0, 1, 2, …"
    )
    ignore: int = Field(
        IGNORED,
        ge=-1,
        le=255,
        description="number of pixels that do not count, named or not; 255: where it has no name; -1: none",
    )

    @model_validator(mode="after")
    def _fit(self) -> Options:
        if self.values and len(self.values) != len(self.names):
            raise ValueError("it needs as many numbers as source.names has names")
        if len(set(self.values)) < len(self.values) or any(not 0 <= value < _VALUES for value in self.values):
            raise ValueError("its numbers are from 0 to 255, each once")
        return self


@dataclass(frozen=True)
class _Classes:
    """Number → name; `said` is where the names stand, for an error."""

    names: Mapping[int, str]
    ignore: int
    said: str


def files(source: Source) -> list[Path]:
    """The archive, or every file of the folder."""
    return source_files(source)


def read(source: Source) -> Iterator[pa.Table]:
    """Tables of `image`, `mask`, `origin`, `given_test` and `given_validation`.

    Raises UserError naming the file that is wrong.
    """
    options = Options.parse(source.options, "source")
    tree = tree_of(source)
    pairs = _pairs(tree, options)
    classes = _classes(tree, options)
    layout = layout_of(list(pairs), tree.root.name, source)
    check_layout(layout, list(pairs), tree.root.name, source)
    rows = [(*pair, layout.splits.get(key.parts[layout.skip], TRAIN)) for key, pair in pairs.items()]
    for start in range(0, len(rows), FILES_PER_CHUNK):
        yield _table(tree, rows[start : start + FILES_PER_CHUNK], classes)


def _pairs(tree: Tree, options: Options) -> dict[PurePosixPath, tuple[PurePosixPath, PurePosixPath]]:
    """What an image and its mask are called alike → the two files, in the order of the images' names."""
    images, masks = (_of_folder(tree, name) for name in (options.images, options.masks))
    if not images:
        raise SettingError(
            f"source.images: {tree.root.name} has no image in a folder {options.images}; name the folder of"
            f" images in source.images and that of their masks in source.masks ({options.masks})"
        )
    for key, file in images.items():
        if key not in masks:
            raise DataError(
                f"{tree.title(file)}: there is no mask of this name in {options.masks}/; add one, or remove"
                " the image"
            )
    if lonely := sorted(set(masks) - set(images)):
        raise DataError(
            f"{tree.title(masks[lonely[0]])}: there is no image of this name in {options.images}/; add it, or"
            " remove the mask"
        )
    return {key: (file, masks[key]) for key, file in images.items()}


def _of_folder(tree: Tree, folder: str) -> dict[PurePosixPath, PurePosixPath]:
    """Name without that folder and the suffix → file, of the pictures in folders called so."""
    found: dict[PurePosixPath, PurePosixPath] = {}
    for name in sorted(tree.entries):
        if folder not in name.parts[:-1] or name.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        place = name.parts.index(folder)
        key = PurePosixPath(*name.parts[:place], *name.parts[place + 1 :]).with_suffix("")
        if key in found:
            raise DataError(f"{tree.title(name)}: {found[key].name} has the same name; rename one of them")
        found[key] = name
    return found


def _classes(tree: Tree, options: Options) -> _Classes:
    if options.names:
        values = options.values or range(len(options.names))
        return _checked(dict(zip(values, options.names, strict=True)), options.ignore, "source.names")
    file = next((name for name in sorted(tree.entries) if name.name == NAMES_FILE), None)
    if file is None:
        raise SettingError(
            f"source.names is empty, and {tree.root.name} has no {NAMES_FILE}; name the classes, one for each"
            " number of a pixel, as in source.names: [background, crack]"
        )
    title = tree.title(file)
    try:
        lines = tree.read(file, _MOST_NAMES_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{title} is not UTF-8; save it as UTF-8") from None
    return _checked({value: line for value, line in enumerate(lines) if line.strip()}, options.ignore, title)


def _checked(names: Mapping[int, str], ignore: int, said: str) -> _Classes:
    # Of a crack that is drawn white, 255 may be the number.
    named = names if ignore == IGNORED else {value: name for value, name in names.items() if value != ignore}
    stripped = {value: name.strip() for value, name in named.items()}
    twice = [name for name in stripped.values() if list(stripped.values()).count(name) > 1]
    if twice or not all(stripped.values()) or max(stripped, default=0) >= _VALUES:
        wrong = f"'{twice[0]}' twice" if twice else f"an empty name, or more than {_VALUES}"
        raise SettingError(f"{said} has {wrong}; a class has one name and one number from 0 to 255")
    return _Classes(stripped, ignore, said)


def _table(tree: Tree, rows: list[tuple[PurePosixPath, PurePosixPath, str]], classes: _Classes) -> pa.Table:
    import pyarrow as pa

    from retrainer.formats.columns import MASK

    images = [tree.read(image) or None for image, _, _ in rows]
    masks = [
        _mask(tree.read(mask), data, tree.title(mask), classes)
        for data, (_, mask, _) in zip(images, rows, strict=True)
    ]
    return pa.table(
        {
            "image": encoded_array(images),
            "mask": pa.array(masks, MASK),
            "origin": pa.array([tree.title(image) for image, _, _ in rows], pa.string()),
            **given_columns([split for _, _, split in rows]),
        }
    )


def _mask(data: bytes, image: bytes | None, title: str, classes: _Classes) -> dict[str, Any]:
    """The file as it is, and the names of the numbers that it has. Raises UserError naming the file."""
    import numpy as np

    from retrainer.formats.masks import read_mask, upright_size

    values = read_mask(data, title)
    size = upright_size(image or b"")
    if size is not None and size != values.shape:
        (height, width), (down, right) = size, values.shape
        raise DataError(
            f"{title}: the mask is {right} × {down} pixels and its image {width} × {height}; make it of the"
            " image's size, upright"
        )
    there = np.flatnonzero(np.bincount(values.ravel(), minlength=_VALUES)).tolist()
    for value in there:
        if value not in classes.names and value != classes.ignore:
            raise DataError(
                f"{title}: its pixels have the number {value}, which has no name in {classes.said}; name it,"
                " or set source.ignore to it"
            )
    named = [
        classes.names.get(value) if value in there else None for value in range(max(there, default=-1) + 1)
    ]
    return {"image": {"bytes": data, "path": None}, "classes": named}
