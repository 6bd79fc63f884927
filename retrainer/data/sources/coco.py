"""COCO's object detection format: one JSON file for many images (folder, .zip or .tar[.gz|.xz]).

    annotations/instances_SPLIT.json   images in SPLIT/ or images/SPLIT/ (COCO's own layout)
    SPLIT/_annotations.coco.json       images beside it (as labelling tools export)
    any other NAME.json                images named relative to it, in images/ beside it, or in NAME/

The split `source.test` ("test" or the one whose name begins so, where the data has one) is the user's own
test set, `source.validation` (likewise "val", "valid", "validation" or "dev") the own validation set; `none`:
there is none. All others are training rows. Boxes are [left, top, width, height]. Regions
marked `iscrowd` stand for no single object and are left out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.data.sources._boxes import Annotated, box, number_of_pixels, tables
from retrainer.data.sources._folders import Tree, inside, source_files, tree_of
from retrainer.data.sources._splits import NONE, TEST, TRAIN, VALIDATION, split_of
from retrainer.data.sources._values import MAX_ANNOTATION_BYTES
from retrainer.errors import DataError, SettingError, nearest
from retrainer.settings import Section, Source

if TYPE_CHECKING:
    import pyarrow as pa

_KEYS = ("images", "annotations", "categories")


class Options(Section):
    """Further keys of `source:` for this kind."""

    test: str = Field("", description="split: your own test set; empty: the one named test…, if any; none")


def files(source: Source) -> list[Path]:
    """The archive, or every file of the folder."""
    return source_files(source)


def read(source: Source) -> Iterator[pa.Table]:
    """Tables of `image`, `boxes`, `origin`, `given_test` and `given_validation`.

    Raises UserError naming file and entry.
    """
    tree = tree_of(source)
    splits = _splits(tree)
    test = _test_split(Options.parse(source.options, "source").test, list(splits), tree.root.name)
    held_out = {test: TEST} | dict.fromkeys(_validation_splits(source, list(splits), test, tree), VALIDATION)
    rows = [
        row
        for split, (file, data) in splits.items()
        for row in _rows(tree, file, data, split, held_out.get(split, TRAIN))
    ]
    yield from tables(tree, rows)


def _splits(tree: Tree) -> dict[str, tuple[PurePosixPath, dict[str, Any]]]:
    """Name of each split → its file, parsed. Raises UserError when none of the files is COCO's."""
    found: dict[str, tuple[PurePosixPath, dict[str, Any]]] = {}
    for file in sorted(name for name in tree.entries if name.suffix.lower() == ".json"):
        data = _parsed(tree, file)
        if data is None:
            continue
        split = file.parent.name if file.name.startswith("_annotations") else file.stem
        split = split.removeprefix("instances_")
        if split in found:
            raise DataError(f"{tree.title(file)}: {found[split][0]} is of a split '{split}' too; rename one")
        found[split] = file, data
    if not found:
        raise SettingError(
            f"source.path: {tree.root.name} holds no .json with {', '.join(_KEYS)}; see docs/tasks"
        )
    return found


def is_annotation(tree: Tree, file: PurePosixPath) -> bool:
    """Whether the file holds annotations of this form. Raises UserError for one that is no JSON."""
    return _parsed(tree, file) is not None


def _parsed(tree: Tree, file: PurePosixPath) -> dict[str, Any] | None:
    """The file's content, None where it is another kind of file (captions, settings)."""
    try:
        data = json.loads(tree.read(file, MAX_ANNOTATION_BYTES))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"{tree.title(file)} is no JSON ({reason}); write it again") from None
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in _KEYS):
        return None
    return data


def _test_split(asked: str, splits: list[str], root: str) -> str:
    """The split to test on, "" for none."""
    if asked == "none":
        return ""
    if asked and asked not in splits:
        raise SettingError(f"source.test: {root} has no split '{asked}'{nearest(asked, splits)}")
    test = asked or next((split for split in splits if split.startswith("test")), "")
    if test and len(splits) == 1:
        raise SettingError(f"source.test: '{test}' is the only split of {root}; set source.test: none")
    return test


def _validation_splits(source: Source, splits: list[str], test: str, tree: Tree) -> list[str]:
    """The splits of the own validation set; none where no other is left to train on."""
    asked, others = source.validation, [split for split in splits if split != test]
    if asked == NONE:
        return []
    if asked and asked not in others:
        raise SettingError(
            f"source.validation: {tree.root.name} has no split '{asked}'{nearest(asked, others)}"
        )
    found = [asked] if asked else [split for split in others if split_of(split) == VALIDATION]
    return found if len(found) < len(others) else []


def _rows(
    tree: Tree, file: PurePosixPath, data: dict[str, Any], split: str, role: str
) -> Iterator[Annotated]:
    title = tree.title(file)
    names = {_key(entry, "id", title): _key(entry, "name", title) for entry in data["categories"]}
    boxes: dict[object, list[dict[str, Any]]] = defaultdict(list)
    images = [(_key(entry, "id", title), _key(entry, "file_name", title)) for entry in data["images"]]
    known = {number for number, _ in images}
    if len(known) < len(images):
        raise DataError(f"{title}: two images have one id; give each its own")
    for number, entry in enumerate(data["annotations"], start=1):
        where = f"{title}: annotation {number}"
        image, category = _key(entry, "image_id", where), _key(entry, "category_id", where)
        if image not in known or category not in names:
            what, value = ("image", image) if image not in known else ("category", category)
            raise DataError(f"{where}: there is no {what} of id {value!r}; add it, or delete the annotation")
        if not entry.get("iscrowd"):
            boxes[image].append(_box(str(names[category]), entry.get("bbox"), where))
    for image, name in images:
        yield Annotated(_image(tree, file, str(name), split), boxes[image], role)


def _key(entry: object, key: str, where: str) -> str | int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str | int):
        raise DataError(f"{where}: an entry has no {key!r} (a number or a text); write it")
    return value


def _box(label: str, given: object, where: str) -> dict[str, Any]:
    if not isinstance(given, list) or len(given) != 4:
        raise DataError(f"{where} has no bbox [left, top, width, height]; write one, or delete it")
    left, top, width, height = (number_of_pixels(value, where) for value in given)
    return box(label, (left, top, left + width, top + height), where)


def _image(tree: Tree, file: PurePosixPath, name: str, split: str) -> PurePosixPath:
    """The file of the image `name`, in the first of the usual places that has it."""
    beside, above = file.parent, file.parent.parent
    folders = [beside, beside / "images", beside / split, above / split, above / "images" / split]
    folders += [above / "images", above]
    places = [inside(folder, name, tree.title(file)) for folder in folders]
    found = next((place for place in places if place in tree), None)
    if found is None:
        raise DataError(
            f"{tree.title(file)}: there is no image {name[:100]!r} beside it, in images/ or in {split}/;"
            " copy it there, or delete its entry"
        )
    return found
