"""Folders as people have them: train/ beside val/, valid/, validation/, dev/ and test/, plain and packed."""

from __future__ import annotations

import logging
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from retrainer.data.ingest import ingest
from retrainer.data.preprocess import preprocess
from retrainer.data.sources._splits import split_of, splits_of
from retrainer.errors import UserError
from retrainer.formats.audio import encode_wav
from retrainer.formats.dataset import Dataset
from retrainer.settings import Checks, Source, Split, Task
from tests.annotated_images import coco_folder, voc_folder
from tests.small_datasets import png
from tests.source_files import written

IMAGES = Task(kind="image_classification")


def noise(seed: int) -> bytes:
    return png(np.random.default_rng(seed).integers(0, 256, (12, 12), dtype=np.uint8))


def put(root: Path, **counts: int) -> Path:
    """So many images of each of two classes in each split's folder."""
    for split, count in counts.items():
        for number in range(count):
            for kind in ("cat", "dog"):
                seed = hash_of(f"{split} {kind} {number}")
                written(root / split / kind / f"{number}.png", noise(seed))
    return root


def hash_of(text: str) -> int:
    return zlib.crc32(text.encode())


def packed(folder: Path, form: str) -> Path:
    if form == "folder":
        return folder
    return Path(shutil.make_archive(str(folder), form, folder.parent, folder.name))


def ingested(path: Path, **source: object) -> Dataset:
    ingest(Source.parse({"path": str(path), **source}, "source"), path.parent / "raw")
    return Dataset(path.parent / "raw")


@pytest.mark.parametrize("form", ["folder", "zip", "gztar"])
@pytest.mark.parametrize("name", ["val", "valid", "Validation", "dev"])
def test_an_own_validation_folder_is_the_validation_set(
    name: str, form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = packed(put(tmp_path / "pets", **{"train": 8, name: 3, "test": 2}), form)
    with caplog.at_level(logging.INFO, "retrainer"):
        raw = ingested(path)
    assert raw.manifest["rows"] == {"all": 16, "given_test": 4, "given_validation": 6}
    assert raw.manifest["format_version"] == 3
    assert "16 rows belong to training, 4 to your own test set, 6 to your own validation set" in caplog.text
    manifest = preprocess(raw.path, tmp_path / "dataset", Split(), Checks(), IMAGES)
    assert manifest["rows"] == {"train": 16, "validation": 6, "test": 4}
    origins = Dataset(tmp_path / "dataset").split("validation")["origin"].to_pylist()
    assert all(f"/{name}/" in origin for origin in origins)


def test_without_an_own_test_set_it_is_drawn_from_the_training_rows(tmp_path: Path) -> None:
    """And the rest stays for training: `split.validation` has no meaning then."""
    raw = ingested(put(tmp_path / "pets", train=40, val=5))
    split = Split(test=0.3, validation=0.4)
    manifest = preprocess(raw.path, tmp_path / "dataset", split, Checks(), IMAGES)
    rows = manifest["rows"]
    assert rows["validation"] == 10 and rows["train"] + rows["test"] == 80 and 10 < rows["test"] < 40
    tested = Dataset(tmp_path / "dataset").split("test")["origin"].to_pylist()
    assert all("/train/" in origin for origin in tested)


def test_the_validation_rows_may_join_the_training_rows(tmp_path: Path) -> None:
    path = put(tmp_path / "pets", train=4, val=3, dev=2)
    assert ingested(path, validation="none").manifest["rows"] == {"all": 18}
    assert ingested(path, validation="dev").manifest["rows"] == {"all": 14, "given_validation": 4}
    with pytest.raises(UserError, match=r"source\.validation: pets has no 'deu'; did you mean 'dev'"):
        ingested(path, validation="deu")


def test_training_rows_that_are_validated_on_are_left_out(tmp_path: Path) -> None:
    """And validation rows that are tested: the test set is kept whole."""
    path = put(tmp_path / "pets", train=8, val=4, test=4)
    for split, other in (
        ("train/cat/a", "val/cat/0"),
        ("train/dog/b", "test/dog/1"),
        ("val/dog/c", "test/dog/2"),
    ):
        shutil.copy(path / f"{other}.png", path / f"{split}.png")
    raw = ingested(path)
    manifest = preprocess(raw.path, tmp_path / "dataset", Split(), Checks(test_overlap="warn"), IMAGES)
    assert manifest["rows"] == {"train": 16, "validation": 8, "test": 8}
    assert manifest["dropped"] == {"also in the test set": 2, "also in the validation set": 1}
    found = {check["name"]: check for check in manifest["checks"]}
    assert found["validation_overlap"]["count"] == 1 and found["test_overlap"]["count"] == 2
    with pytest.raises(UserError, match=r"checks\.validation_overlap: 1 training rows"):
        checks = Checks(test_overlap="warn", validation_overlap="error")
        preprocess(raw.path, tmp_path / "no", Split(), checks, IMAGES)


def test_a_split_by_time_keeps_the_own_validation_set(tmp_path: Path) -> None:
    for name, days in (("train", range(1, 25)), ("val", range(25, 29))):
        lines = [f"{zlib.crc32(bytes([day])):x},{'ab'[day % 2]},2026-01-{day:02}" for day in days]
        written(tmp_path / "days" / f"{name}.csv", "\n".join(["text,label,time", *lines]))
    raw = ingested(tmp_path / "days")
    manifest = preprocess(raw.path, tmp_path / "dataset", Split(by="time", test=0.25), Checks(), Task())
    assert manifest["rows"] == {"train": 18, "validation": 4, "test": 6}


MISTAKES = {
    "classes beside": (
        {"train": 1, "val": 1, "bird": 1},
        "has train and val, and beside them bird; keep everything",
    ),
    "no train": ({"valid": 1, "test": 1}, "has test and valid and no train/ beside them"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_folders_that_cannot_be_meant_are_refused(name: str, tmp_path: Path) -> None:
    counts, message = MISTAKES[name]
    with pytest.raises(UserError, match=message):
        ingested(put(tmp_path / "pets", **counts))


def test_classes_that_only_sound_like_splits_stay_classes() -> None:
    assert not splits_of({"train-station", "test-tube", "bottle"}, "things", Source())
    assert not splits_of({"train", "car", "bus"}, "vehicles", Source())
    assert not splits_of({"valid", "invalid"}, "forms", Source())
    names = ("dev-clean", "train-00000-of-00002", "val2017", "devices", "cat")
    assert list(map(split_of, names)) == ["validation", "train", "validation", None, None]


# --- the other sources -----------------------------------------------------------------------------------


def test_tables_in_a_folder_are_splits_by_their_names(tmp_path: Path) -> None:
    for name, count in (("train-00000", 6), ("train-00001", 6), ("dev", 3), ("test", 2)):
        lines = [f"{name} {n},{'ab'[n % 2]}" for n in range(count)]
        written(tmp_path / "reviews" / f"{name}.csv", "\n".join(["text,label", *lines]))
    assert ingested(tmp_path / "reviews").manifest["rows"] == {
        "all": 12,
        "given_test": 2,
        "given_validation": 3,
    }
    written(tmp_path / "reviews" / "sample.csv", "text,label\nx,a\n")
    with pytest.raises(UserError, match="reviews has dev and test, and beside them sample"):
        ingested(tmp_path / "reviews")


def test_tables_of_other_names_are_read_together(tmp_path: Path) -> None:
    for name in ("january", "february"):
        written(tmp_path / "months" / f"{name}.csv", f"text,label\n{name} one,a\n{name} two,b\n")
    assert ingested(tmp_path / "months").manifest["rows"] == {"all": 4}


def clip(seed: int) -> bytes:
    return encode_wav(np.random.default_rng(seed).normal(0, 0.1, 400).astype(np.float32), 8000)


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_sounds(form: str, tmp_path: Path) -> None:
    for seed, name in enumerate(("train/yes/a", "train/no/b", "valid/yes/c", "test/no/d")):
        written(tmp_path / "words" / f"{name}.wav", clip(seed))
    source = {"kind": "audio_folder", "columns": {"audio": "audio", "labels": "strings"}}
    raw = ingested(packed(tmp_path / "words", form), **source)
    assert raw.manifest["rows"] == {"all": 2, "given_test": 1, "given_validation": 1}
    assert raw.manifest["classes"]["given_validation"] == {"yes": 1}


def test_sounds_by_the_pattern_of_their_names(tmp_path: Path) -> None:
    for seed, name in enumerate(("train-clean-100/84/a b", "dev-clean/85/c", "test-clean/86/d")):
        written(tmp_path / "speech" / f"{name}.wav", clip(seed))
    source = {"kind": "audio_folder", "pattern": "{group}/{text}.wav"}
    source |= {"columns": {"audio": "audio", "target_text": "string"}}
    assert ingested(tmp_path / "speech", **source).manifest["rows"] == {
        "all": 1, "given_test": 1, "given_validation": 1,
    }  # fmt: skip


def test_parallel_texts(tmp_path: Path) -> None:
    for name, count in (("train", 5), ("dev2015", 2), ("test_2016", 1)):
        for language in ("de", "en"):
            lines = "".join(f"{name} {language} {n}\n" for n in range(count))
            written(tmp_path / "pairs" / f"{name}.{language}", lines)
    source = {"kind": "parallel_text", "text": "de", "target_text": "en"}
    source["columns"] = {"text": "string", "target_text": "string"}
    assert ingested(tmp_path / "pairs", **source).manifest["rows"] == {
        "all": 5, "given_test": 1, "given_validation": 2,
    }  # fmt: skip
    assert ingested(tmp_path / "pairs", validation="none", **source).manifest["rows"] == {
        "all": 7,
        "given_test": 1,
    }
    for language in ("de", "en"):
        (tmp_path / "pairs" / f"train.{language}").unlink()
    assert ingested(tmp_path / "pairs", **source).manifest["rows"] == {"all": 2, "given_test": 1}


BOXES = {"columns": {"image": "image", "boxes": "boxes"}}


def test_lists_of_pascal_voc(tmp_path: Path) -> None:
    folder = voc_folder(tmp_path / "voc", 6, test=2)
    lists = folder / "ImageSets" / "Main"
    names = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
    for name, part in (("trainval", names[:4]), ("train", names[:3]), ("val", names[3:4])):
        (lists / f"{name}.txt").write_text("\n".join(part))
    counts = ingested(folder, kind="pascal_voc", **BOXES).manifest["rows"]
    assert counts == {"all": 3, "given_test": 2, "given_validation": 1}
    assert ingested(folder, kind="pascal_voc", validation="none", **BOXES).manifest["rows"] == {
        "all": 4, "given_test": 2,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"source\.validation: voc has no list 'vall'"):
        ingested(folder, kind="pascal_voc", validation="vall", **BOXES)


def test_splits_of_coco(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path / "coco", 3, "train2017")
    coco_folder(folder, 2, "val2017", start=3)
    assert ingested(folder, kind="coco", **BOXES).manifest["rows"] == {"all": 3, "given_validation": 2}
    assert ingested(folder, kind="coco", validation="none", **BOXES).manifest["rows"] == {"all": 5}
    with pytest.raises(
        UserError, match=r"source\.validation: coco has no split 'val'; did you mean 'val2017'"
    ):
        ingested(folder, kind="coco", validation="val", **BOXES)


def test_a_raw_dataset_keeps_its_own_validation_set(tmp_path: Path) -> None:
    raw = ingested(put(tmp_path / "pets", train=4, val=3, test=2))
    shutil.move(raw.path, tmp_path / "kept")
    again = ingested(tmp_path / "kept", kind="dataset")
    assert again.manifest["rows"] == raw.manifest["rows"]
    assert again.content_sha256 == raw.content_sha256


# --- several class folders -------------------------------------------------------------------------------


def pictured(tmp_path: Path, several: bool) -> Dataset:
    """Twelve images of which two lie in both class folders."""
    path = put(tmp_path / "pets", cat=6)
    for source in (path / "cat" / "cat", path / "cat" / "dog"):
        for file in source.iterdir():
            written(path / source.name / file.name, file.read_bytes())
    shutil.rmtree(path / "cat" / "cat"), shutil.rmtree(path / "cat" / "dog")
    for number in (0, 1):
        shutil.copy(path / "cat" / f"{number}.png", path / "dog" / f"also-{number}.png")
    (path / "cat" / "LICENSE.txt").write_text("MIT")
    raw = ingested(path)
    task = Task(kind="image_classification", multi_label=several)
    preprocess(
        raw.path,
        tmp_path / "dataset",
        Split(test=0.5, validation=0),
        Checks(conflicting_labels="warn", empty="warn"),
        task,
    )
    return Dataset(tmp_path / "dataset")


def test_an_image_in_two_class_folders_has_both_labels(tmp_path: Path) -> None:
    data = pictured(tmp_path, several=True)
    labels = [row for split in ("train", "test") for row in data.split(split)["labels"].to_pylist()]
    assert sorted(labels) == [["cat"]] * 4 + [["cat", "dog"]] * 2 + [["dog"]] * 6
    assert data.manifest["dropped"] == {"the same file in another class folder": 2, "no image": 1}
    found = {check["name"]: check["count"] for check in data.manifest["checks"]}
    assert found["several_folders"] == 2 and found["conflicting_labels"] == 0


def test_where_a_row_has_one_label_it_contradicts_itself(tmp_path: Path) -> None:
    assert pictured(tmp_path, several=False).manifest["dropped"] == {
        "conflicting labels": 4,
        "no image": 1,
    }


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_licence_beside_the_folders_changes_none_of_them(form: str, tmp_path: Path) -> None:
    outer = tmp_path / "around"
    put(outer / "pets", train=3, test=2)
    (outer / "pets" / "LICENSE.txt").write_text("MIT")
    data = ingested(packed(outer, form))
    splits = {name: data.split(name)["labels"].to_pylist() for name in data.manifest["rows"]}
    assert sorted(splits["given_test"]) == [["cat"], ["cat"], ["dog"], ["dog"]]
    assert {tuple(row) for row in splits["all"] if row} == {("cat",), ("dog",)}


def test_a_validation_set_without_a_training_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"source\.validation: .* has no train/ beside 'holdout'"):
        ingested(put(tmp_path / "pets", images=2, holdout=2), validation="holdout")
