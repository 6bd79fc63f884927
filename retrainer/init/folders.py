"""A folder or archive of images, sounds, boxes or parallel texts, as what a recipe needs to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from retrainer.data.fingerprint import source_module
from retrainer.data.sources import csv
from retrainer.data.sources._folders import IMAGE_SUFFIXES, Tree
from retrainer.data.sources._splits import TEST, TRAIN, VALIDATION, is_split_name, split_of
from retrainer.data.sources.image_folder import layout_of
from retrainer.errors import DataError
from retrainer.formats.names import SPLITS
from retrainer.init.found import Found, class_counts, shown
from retrainer.settings import Source
from retrainer.texts import plural

# So many annotated images or sounds tell what they are like.
MOST_READ = 2_000
_LOOKED_AT = 60
# Below, an image is enlarged: the network's first layers are made for photographs of 224 pixels.
SMALL_SIDE, SMALL_SIZE = 64, 96
_OWN = {TEST: "your own test set", VALIDATION: "your own validation set"}


def names_of(tree: Tree, suffixes: Sequence[str] | set[str]) -> list[PurePosixPath]:
    return [name for name in tree.entries if name.suffix.lower() in suffixes]


def look_at_images(tree: Tree, path: Path) -> Found:
    """Class folders. Raises DataError for images that lie in none."""
    images = names_of(tree, IMAGE_SUFFIXES)
    layout = layout_of(images, tree.root.name, Source.parse({"path": str(path)}, "source"))
    parts = [name.parts[layout.skip :] for name in images]
    classes = Counter(part[bool(layout.splits)] for part in parts if len(part) > 1 + bool(layout.splits))
    if len(classes) < 2:
        raise DataError(
            f"{path} holds {plural(len(images), 'image')} and"
            f" {plural(len(classes), 'class folder') if classes else 'no class folders'}; sort them into one"
            " folder a class, or lay a table (image,label) or boxes (Pascal VOC, COCO) beside them"
        )
    splits = Counter(layout.splits.get(part[0], TRAIN) for part in parts)
    facts = [class_counts(classes), *_splits_facts(splits, "image")]
    if loose := len(images) - sum(classes.values()):
        facts.append(f"{plural(loose, 'image lies', 'images lie')} in no class folder and will be left out")
    source: dict[str, Any] = {"kind": "image_folder", "path": str(path)}
    chosen = {"source.kind": "each folder is a class", **_test_beside(path, source)}
    task = {"kind": "image_classification", **_pixels(tree, images, facts, chosen)}
    return Found(
        f"{path}: {plural(len(images), 'image')} in class folders", source, task, tuple(facts), chosen
    )


def _splits_facts(splits: Mapping[str, int], what: str) -> list[str]:
    """Which rows the user has set apart, where there are any."""
    if not any(splits.get(own) for own in _OWN):
        return ["no test set of its own: a fifth is drawn by hash (split.test)"]
    said = [f"{plural(splits[own], what)} {is_what}" for own, is_what in _OWN.items() if splits.get(own)]
    return [f"{plural(splits.get(TRAIN, 0), what)} to train on; " + "; ".join(said)]


def _test_beside(path: Path, source: dict[str, Any]) -> dict[str, str]:
    """A folder test/ beside one named train/ is the own test set."""
    if not path.is_dir() or not is_split_name(path.name) or split_of(path.name) != TRAIN:
        return {}
    folders = [other for other in sorted(path.parent.iterdir()) if other.is_dir()]
    tests = [other for other in folders if is_split_name(other.name) and split_of(other.name) == TEST]
    if not tests:
        return {}
    source["test_path"] = str(tests[0])
    return {"source.test_path": f"it lies beside {path.name}/; DATA={path.parent} takes val/ too"}


def _pixels(
    tree: Tree, images: Sequence[PurePosixPath], facts: list[str], chosen: dict[str, str]
) -> dict[str, Any]:
    """`size` where it should not be the network's own; says what the images are like."""
    found = _sizes(tree, images)
    if not found:
        facts.append("none of the images that were looked at can be opened")
        return {}
    width, height = sorted(found)[len(found) // 2]
    facts.append(f"of {plural(len(found), 'image')} looked at the median is {width} × {height} pixels")
    if min(width, height) >= SMALL_SIDE:
        chosen["task.size"] = "the network's own, 224 × 224 pixels; a lower one is faster: task.size: 128"
        return {}
    chosen["task.size"] = "small images are enlarged; 224 takes longer and may be a little better"
    return {"size": SMALL_SIZE}


def _sizes(tree: Tree, images: Sequence[PurePosixPath]) -> list[tuple[int, int]]:
    """Width and height of some images, evenly taken; those that cannot be opened are left out."""
    import io

    from PIL import Image

    found = []
    for name in images[:: max(1, len(images) // _LOOKED_AT)]:
        try:
            with Image.open(io.BytesIO(tree.read(name))) as image:
                found.append(image.size)
        except Exception:  # Pillow's readers fail in many ways; ingest says so of each image
            continue
    return found


def look_at_boxes(kind: str, path: Path) -> Found:
    """Annotated images, as the source's own reader sees them."""
    written = {"kind": kind, "path": str(path)}
    source = Source.parse(written | {"columns": {"image": "image", "boxes": "boxes"}}, "source")
    splits, classes, images, empty = Counter[str](), Counter[str](), 0, 0
    for table in source_module(source).read(source):
        images += len(table)
        splits.update(_splits_of(table))
        boxes = table["boxes"].to_pylist()
        classes.update(box["label"] for row in boxes for box in row)
        empty += sum(not row for row in boxes)
        if images >= MOST_READ:
            break
    facts = [f"boxes of {class_counts(classes)}", *_splits_facts(splits, "image")]
    facts += [f"{plural(empty, 'image has', 'images have')} no object, and count as such"] if empty else []
    facts += [f"the first {images:,} images were looked at"] if images >= MOST_READ else []
    chosen = {"task.size": "height and width that the network sees; smaller is faster, larger finds more"}
    task = {"kind": "object_detection", "size": [192, 256], "flip": True, "shift": 32, "scale": 0.3}
    return Found(
        f"{path}: {plural(images, 'image')} with boxes ({kind})", written, task, tuple(facts), chosen
    )


def look_at_masks(path: Path) -> Found:
    """images/ and masks/, as the source's own reader sees them. Raises UserError where it refuses them."""
    written = {"kind": "image_masks", "path": str(path)}
    source = Source.parse(written | {"columns": {"image": "image", "mask": "mask"}}, "source")
    splits, classes, images = Counter[str](), Counter[str](), 0
    for table in source_module(source).read(source):
        images += len(table)
        splits.update(_splits_of(table))
        classes.update(name for mask in table["mask"].to_pylist() for name in mask["classes"] if name)
        if images >= MOST_READ:
            break
    facts = [f"images that show {class_counts(classes)}", *_splits_facts(splits, "image")]
    facts += [f"the first {images:,} images were looked at"] if images >= MOST_READ else []
    chosen = {"task.size": "height and width that the network sees; smaller is faster, larger finds more"}
    task = {"kind": "semantic_segmentation", "size": [192, 256], "flip": True, "shift": 32, "scale": 0.3}
    return Found(f"{path}: {plural(images, 'image')} with masks", written, task, tuple(facts), chosen)


def _splits_of(table: Any) -> Counter[str]:
    given = zip(table["given_test"].to_pylist(), table["given_validation"].to_pylist(), strict=True)
    train, validation, test = SPLITS
    return Counter(
        test if is_test else validation if is_validation else train for is_test, is_validation in given
    )


def look_at_parallel_texts(path: Path) -> Found | None:
    """NAME.de and NAME.en, plain or .gz; None where the files are no such pairs."""
    names = [file.name.removesuffix(".gz") for file in sorted(path.iterdir()) if file.is_file()]
    ends = sorted({name.rpartition(".")[2] for name in names if "." in name[1:]})
    if len(ends) != 2 or any(len(end) > 5 for end in ends):
        return None
    stems = [{name.removesuffix(f".{end}") for name in names if name.endswith(f".{end}")} for end in ends]
    if stems[0] != stems[1]:
        return None
    source = {"kind": "parallel_text", "path": str(path), "text": ends[0], "target_text": ends[1]}
    settings = Source.parse(source, "source")
    source_module(settings).files(settings)
    splits = {stem: TEST if stem.lower().startswith(TEST) else split_of(stem) or TRAIN for stem in stems[0]}
    facts = [
        f"{shown(sorted(s for s, split in splits.items() if split == own))} is {said}"
        for own, said in _OWN.items()
        if own in splits.values()
    ]
    chosen = {"source.text": f"from {ends[0]} to {ends[1]}; the other way: swap text and target_text"}
    title = f"{path}: {plural(len(stems[0]), 'pair')} of parallel texts (.{ends[0]}, .{ends[1]})"
    return Found(title, source, {"kind": "translation", "max_length": 64}, tuple(facts), chosen)


def table_beside(tree: Tree) -> Path | None:
    """The table that lies highest in a folder; of several there the one named metadata."""
    if not tree.root.is_dir():
        return None
    tables = names_of(tree, csv.SUFFIXES)
    highest = [name for name in tables if len(name.parts) == min(len(one.parts) for one in tables)]
    named = [name for name in highest if name.stem.lower() == "metadata"] or highest
    return tree.root / named[0] if len(named) == 1 else None
