"""Pascal VOC: an image a file, its objects in an XML file of the same name (folder, .zip or .tar[.gz|.xz]).

    Annotations/NAME.xml        objects of the image NAME: class and box in pixels, as they stand there
    JPEGImages/NAME.jpg         the image, of any format that Pillow opens
    ImageSets/Main/LIST.txt     names, one a line; optional

The list `source.test` ("test" where the data has one) is the user's own test set, the list
`source.validation` ("val" where there is also "train") the own validation set; `none`: there is none. Where
there are lists `trainval`, `train` or `val`, all other images of theirs are the training rows, else every
other annotated image. Folders around these three are looked through. Objects marked
`difficult` count as the others do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from pydantic import Field

from retrainer.data.sources._boxes import Annotated, box, tables
from retrainer.data.sources._folders import IMAGE_SUFFIXES, Tree, inside, source_files, tree_of
from retrainer.data.sources._splits import NONE, TEST, TRAIN, VALIDATION
from retrainer.errors import DataError, SettingError, UserError, nearest
from retrainer.settings import Section, Source

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_XML_BYTES = 16 * 2**20
_TRAINING_LISTS = ("trainval", "train", "val")
_SIDES = ("xmin", "ymin", "xmax", "ymax")


class Options(Section):
    """Further keys of `source:` for this kind."""

    test: str = Field(
        "",
        description="list of ImageSets/Main: your own test set; empty: `test` if there is one; none",
    )


def files(source: Source) -> list[Path]:
    """The archive, or every file of the folder."""
    return source_files(source)


def read(source: Source) -> Iterator[pa.Table]:
    """Tables of `image`, `boxes`, `origin`, `given_test` and `given_validation`.

    Raises UserError naming the file that is wrong.
    """
    tree = tree_of(source)
    base = _base(tree)
    splits = _lists(tree, base, source)
    images = {name.stem: name for name in tree.entries if name.parent == base / "JPEGImages"}
    rows = [
        Annotated(_image(tree, base, stem, images), _boxes(tree, base, stem), split)
        for stem, split in sorted(splits.items())
    ]
    yield from tables(tree, rows)


def _base(tree: Tree) -> PurePosixPath:
    """The one folder that holds `Annotations`."""
    found = {name.parent.parent for name in tree.entries if _is_annotation(name)}
    if len(found) != 1:
        state = f"{len(found)} folders Annotations" if found else "no folder Annotations with .xml files"
        raise SettingError(f"source.path: {tree.root.name} holds {state}; a Pascal VOC folder has one")
    return found.pop()


def _is_annotation(name: PurePosixPath) -> bool:
    return name.suffix.lower() == ".xml" and name.parent.name == "Annotations"


def _lists(tree: Tree, base: PurePosixPath, source: Source) -> dict[str, str]:
    """Name of each image that is used → its split; an image of the test is in no other."""
    annotated = {name.stem for name in tree.entries if _is_annotation(name)}
    folder = base / "ImageSets" / "Main"
    known = {name.stem for name in tree.entries if name.parent == folder and name.suffix == ".txt"}
    asked = {"test": Options.parse(source.options, "source").test, "validation": source.validation}
    usual = {"test": TEST, "validation": "val" if TRAIN in known else NONE}
    held_out = {}
    for setting, name in asked.items():
        chosen = name or (usual[setting] if usual[setting] in known else NONE)
        if chosen not in (NONE, *known):
            raise SettingError(
                f"source.{setting}: {tree.root.name} has no list '{chosen}'{nearest(chosen, known)}"
            )
        held_out[setting] = set() if chosen == NONE else _names(tree, folder / f"{chosen}.txt", annotated)
    lists = [_names(tree, folder / f"{name}.txt", annotated) for name in _TRAINING_LISTS if name in known]
    training = set().union(*lists) if lists else annotated
    return (
        dict.fromkeys(training, TRAIN)
        | dict.fromkeys(held_out["validation"], VALIDATION)
        | dict.fromkeys(held_out["test"], TEST)
    )


def _names(tree: Tree, file: PurePosixPath, annotated: set[str]) -> set[str]:
    """The names of a list; in lists of one class a mark (1, 0, -1) follows each."""
    names = set()
    for line in _text(tree, file).splitlines():
        name = line.strip()
        if not name:
            continue
        name = name if name in annotated else name.split()[0]
        if name not in annotated:
            raise DataError(
                f"{tree.title(file)}: there is no Annotations/{name[:100]}.xml; write one (without objects"
                " if the image shows none), or take the name off the list"
            )
        names.add(name)
    return names


def _image(tree: Tree, base: PurePosixPath, stem: str, images: dict[str, PurePosixPath]) -> PurePosixPath:
    """The image of the annotation's name, else the one that it names."""
    if stem in images and images[stem].suffix.lower() in IMAGE_SUFFIXES:
        return images[stem]
    file = base / "Annotations" / f"{stem}.xml"
    name = (_annotation(tree, file).findtext("filename") or "").strip()
    path = inside(base / "JPEGImages", name or f"{stem}.jpg", tree.title(file))
    if path not in tree:
        raise DataError(f"{tree.title(file)}: there is no image {path}; copy it there, or delete the .xml")
    return path


def _boxes(tree: Tree, base: PurePosixPath, stem: str) -> list[dict[str, object]]:
    file = base / "Annotations" / f"{stem}.xml"
    found = []
    for number, thing in enumerate(_annotation(tree, file).iter("object"), start=1):
        where = f"{tree.title(file)}: object {number}"
        corners = thing.find("bndbox")
        if corners is None:
            raise DataError(f"{where} has no bndbox; write one, or delete the object")
        sides = [corners.findtext(side) for side in _SIDES]
        found.append(box(thing.findtext("name") or "", sides, where))
    return found


def _text(tree: Tree, file: PurePosixPath) -> str:
    try:
        return tree.read(file).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{tree.title(file)} is not UTF-8; save it as UTF-8") from None


def _annotation(tree: Tree, file: PurePosixPath) -> Element:
    return parse_xml(tree.read(file), tree.title(file))


def parse_xml(data: bytes, title: str) -> Element:
    """The root element. Raises UserError for a document type or an entity: expanded, a few lines of those
    fill any memory, and they can name other files (as the package defusedxml refuses them).
    """

    def refuse(*_: object) -> Any:
        raise DataError(
            f"{title} declares a document type or an entity, which no annotation needs; remove it"
        )

    if len(data) > _MAX_XML_BYTES:
        raise DataError(f"{title} is larger than {_MAX_XML_BYTES // 2**20} MiB, which no annotation is")
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise DataError(f"{title} is no XML ({error}); write it again") from None
    return builder.close()
