"""What lies at a path: asked of the files' names first, then of the source that can read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from retrainer.data.fingerprint import choose_kind
from retrainer.data.sources import _archives, coco, conll, jsonl
from retrainer.data.sources._folders import IMAGE_SUFFIXES, Tree, tree_of
from retrainer.errors import DataError, SettingError, UserError
from retrainer.formats.audio import SUFFIXES as SOUND_SUFFIXES
from retrainer.formats.files import kind_of
from retrainer.init.folders import (
    look_at_boxes,
    look_at_images,
    look_at_masks,
    look_at_parallel_texts,
    names_of,
    table_beside,
)
from retrainer.init.found import Found
from retrainer.init.sounds import look_at_sounds
from retrainer.init.tables import look_at_tables
from retrainer.init.tagged import look_at_conll, look_at_token_lists
from retrainer.settings import Source
from retrainer.texts import plural

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_READ = (
    "a CSV, TSV, JSONL or Parquet file, a folder or archive (.zip, .tar.gz) with one folder of images or"
    " sounds a class, images with a table, with boxes (Pascal VOC, COCO) or with masks (images/ and masks/),"
    " sounds with a table, parallel texts, or tagged sentences (CoNLL files, JSONL with tokens and tags)"
)


def look(path: str, given: Mapping[str, str]) -> Found:
    """What `path` holds. `given`: role of a column → its name, where a person says it.

    Raises SettingError for a path that is not there, DataError naming what can be read where nothing is.
    """
    place = Path(path)
    if not path or not place.exists():
        raise SettingError(f"{f'DATA={path} does not exist' if path else 'DATA is empty'}; name {_READ}")
    if place.suffix.lower() in jsonl.SUFFIXES and place.is_file() and (found := look_at_token_lists(place)):
        return found
    if place.is_file() and place.suffix.lower() in TABLES:
        return look_at_tables(place, given)
    if _may_be_conll(place) and (found := look_at_conll(place)):
        return found
    if place.is_file() and not _archives.is_archive(path):
        raise DataError(f"{path} is no file that is read; name {_READ}")
    if kind_of(place) == "dataset":
        raise DataError(f"{path} is a dataset of this project; a recipe reads it by source: {{path: {path}}}")
    return _look_inside(place, tree_of(Source.parse({"kind": "init", "path": path}, "source")), given)


def _may_be_conll(place: Path) -> bool:
    """Any file, whatever it is called, and a folder by its files' endings: what is in it decides."""
    if place.is_dir():
        return any(file.suffix.lower() in conll.SUFFIXES for file in place.iterdir())
    return place.is_file() and not _archives.is_archive(str(place))


def _look_inside(path: Path, tree: Tree, given: Mapping[str, str]) -> Found:
    if kind := _annotated(tree):
        return look_at_boxes(kind, path)
    if _has_masks(tree):
        return look_at_masks(path)
    if names_of(tree, SOUND_SUFFIXES):
        return look_at_sounds(tree, path, given)
    if names_of(tree, IMAGE_SUFFIXES):
        return _images(tree, path, given)
    if path.is_dir() and [name for name in names_of(tree, TABLES) if len(name.parts) == 1]:
        return _tables(path, given)
    if path.is_dir() and (found := look_at_parallel_texts(path)):
        return found
    first = next(iter(sorted(tree.entries)), "none")
    raise DataError(
        f"{path} holds nothing that is read ({plural(len(tree.entries), 'file')}, the first: {first});"
        f" name {_READ}"
    )


def _annotated(tree: Tree) -> str:
    """The kind of the source where boxes are drawn, "" elsewhere."""
    if any(name.suffix.lower() == ".xml" and name.parent.name == "Annotations" for name in tree.entries):
        return "pascal_voc"
    if not names_of(tree, IMAGE_SUFFIXES):
        return ""
    return "coco" if any(_is_coco(tree, name) for name in names_of(tree, (".json",))) else ""


def _has_masks(tree: Tree) -> bool:
    """Whether some images lie in a folder images, and others in one masks."""
    folders = {part for name in names_of(tree, IMAGE_SUFFIXES) for part in name.parts[:-1]}
    return {"images", "masks"} <= folders


def _is_coco(tree: Tree, name: PurePosixPath) -> bool:
    try:
        return coco.is_annotation(tree, name)
    except UserError:
        return False


def _images(tree: Tree, path: Path, given: Mapping[str, str]) -> Found:
    """A table that names the images says more than the folders in which they lie."""
    table = table_beside(tree)
    if table is None:
        return look_at_images(tree, path)
    try:
        found = look_at_tables(table, given)
        return found if found.task["kind"].startswith("image") else look_at_images(tree, path)
    except DataError as wrong_with_the_table:
        try:
            return look_at_images(tree, path)
        except DataError:
            raise wrong_with_the_table from None


def _tables(path: Path, given: Mapping[str, str]) -> Found:
    kind = choose_kind(Source.parse({"path": str(path)}, "source"))
    if kind == "image_folder":  # what is chosen where tables are of several kinds
        raise DataError(
            f"{path} holds tables of several kinds; name one of them, or keep one kind in the folder"
        )
    return look_at_tables(path, given)
