"""Columns that a task brings: read from a user's file, checked, divided and hashed, whatever they hold."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from retrainer.data.ingest import ingest
from retrainer.data.preprocess import preprocess
from retrainer.errors import UserError
from retrainer.formats.audio import encode_wav
from retrainer.formats.columns import ENCODED, TYPES, picked
from retrainer.formats.dataset import Dataset, content_hash, write_dataset
from retrainer.formats.profile import read_profile
from retrainer.resolve import source_columns
from retrainer.retraining.drift import compare
from retrainer.settings import Checks, Source, Split, Task

TASKS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "translation": ({"text": "string"}, {"target_text": "string"}),
    "speech": ({"audio": "audio"}, {"target_text": "string"}),
    "detection": ({"image": "image"}, {"boxes": "boxes"}),
    "rating": ({"text": "string", "weight": "number"}, {"stars": "number"}),
    "tagging": ({"words": "strings"}, {"tags": "strings"}),
    "reading": ({"text": "string"}, {}),
}


def _given(task: Any, section: Task, labels: tuple[str, ...]) -> Any:  # noqa: ARG001
    return task


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in for each of TASKS that only tells its columns."""
    for name, (inputs, targets) in TASKS.items():
        module = ModuleType(f"plugins.{name}")
        about: dict[str, Any] = {"input_columns": inputs, "target_columns": targets}
        told = SimpleNamespace(**about, abilities=frozenset(), metrics=())
        module.make = partial(_given, told)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"plugins.{name}", module)


def task_of(name: str) -> Task:
    return Task(kind=f"plugins.{name}")


def source_of(name: str, path: Path, **more: Any) -> Source:
    return Source(path=str(path), columns=source_columns(task_of(name)), **more)


def prepared(
    name: str, folder: Path, rows: list[dict[str, Any]], checks: Checks | None = None, **split: Any
) -> dict[str, Any]:
    """Writes the rows as JSON lines, ingests and preprocesses them; returns the dataset's manifest."""
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    ingest(source_of(name, folder / "rows.jsonl"), folder / "raw")
    return preprocess(
        folder / "raw", folder / "out", Split(**split), checks or Checks(), task_of(name), folder / "findings"
    )


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 255 - shade, shade // 2)).save(stream, "PNG")
    return stream.getvalue()


def box(label: str, left: float = 0) -> dict[str, Any]:
    return {"label": label, "left": left, "top": 1, "right": left + 4, "bottom": 5.5}


def found(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    return next(check for check in manifest["checks"] if check["name"] == name)


# --- settings ---------------------------------------------------------------------------------------------


def test_resolve_names_the_columns_of_the_task() -> None:
    assert source_columns(Task()) == source_columns(Task(kind="image_classification")) == {}
    assert source_columns(task_of("translation")) == {"text": "string", "target_text": "string"}
    assert source_columns(task_of("rating")) == {"text": "string", "weight": "number?", "stars": "number"}
    assert source_columns(task_of("reading")) == {"text": "string"}


def test_a_task_that_does_not_tell_its_columns_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("plugins.old")
    module.make = partial(_given, SimpleNamespace())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "plugins.old", module)
    with pytest.raises(UserError, match=r"the task of plugins\.old has no 'input_columns'"):
        source_columns(task_of("old"))


# --- reading ----------------------------------------------------------------------------------------------


def test_a_csv_names_the_columns_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('english,german,x\n"a dog","ein Hund",1\n"a cat","eine Katze",2\n')
    source = source_of("translation", tmp_path / "a.csv", text="english", target_text="german")
    ingest(source, tmp_path / "raw")
    rows = Dataset(tmp_path / "raw").split("all")
    assert rows.column_names == ["text", "origin", "target_text"]
    assert rows["target_text"].to_pylist() == ["ein Hund", "eine Katze"]


def test_a_column_that_the_task_needs_is_missed_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,german\na,b\n")
    with pytest.raises(UserError, match=r"no column 'target_text'; .*set source\.target_text to"):
        ingest(source_of("translation", tmp_path / "a.csv"), tmp_path / "raw")
    with pytest.raises(UserError, match=r"no column 'deutsch'; .*set source\.target_text to"):
        ingest(source_of("translation", tmp_path / "a.csv", target_text="deutsch"), tmp_path / "raw")


def test_an_input_that_is_no_must_may_be_absent(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,stars\na,4\nb,2.5\n")
    ingest(source_of("rating", tmp_path / "a.csv"), tmp_path / "raw")
    rows = Dataset(tmp_path / "raw").split("all")
    assert rows.column_names == ["text", "origin", "stars"] and rows["stars"].to_pylist() == [4.0, 2.5]


READ: dict[str, tuple[str, str, dict[str, Any]]] = {
    "numbers as text": ("rating", 'text,stars\na," 4 "\nb,\n', {"stars": [4.0, None]}),
    "lists as JSON": ("tagging", 'words,tags\n"a|b","N|V"\n', {"words": [["a", "b"]], "tags": [["N", "V"]]}),
    "boxes as JSON": (
        "detection",
        'image,boxes\nshade.png,"[{""label"": ""cell"", ""left"": 0, ""top"": 1, '
        '""right"": 4, ""bottom"": 5.5}]"\nshade.png,[]\nshade.png,\n',
        {"boxes": [[box("cell")], [], None]},
    ),
}


@pytest.mark.parametrize("case", READ)
def test_values_of_every_type_are_read_from_csv(case: str, tmp_path: Path) -> None:
    task, text, expected = READ[case]
    (tmp_path / "shade.png").write_bytes(picture(3))
    (tmp_path / "a.csv").write_text(text)
    ingest(source_of(task, tmp_path / "a.csv", label_separator="|"), tmp_path / "raw")
    rows = Dataset(tmp_path / "raw").split("all")
    for name, values in expected.items():
        assert rows[name].to_pylist() == values
        assert rows.schema.field(name).type == TYPES[Dataset(tmp_path / "raw").manifest["types"][name]]


UNFIT: dict[str, tuple[str, dict[str, Any], str]] = {
    "a word for a number": (
        "rating",
        {"text": "a", "stars": "four"},
        "column 'stars' holds 'four', which is no",
    ),
    "a truth for a number": (
        "rating",
        {"text": "a", "stars": True},
        "holds 'True', which is no finite number",
    ),
    "an infinite number": ("rating", {"text": "a", "stars": "inf"}, "holds 'inf', which is no finite number"),
    "a box without a side": (
        "detection",
        {"image": "a.png", "boxes": [{"label": "x", "left": 1, "top": 2, "right": 3}]},
        "column 'boxes' holds a box without 'bottom'",
    ),
    "a box without a name": (
        "detection",
        {"image": "a.png", "boxes": [box("")]},
        "column 'boxes' holds a box without 'label'",
    ),
    "boxes that are none": (
        "detection",
        {"image": "a.png", "boxes": "here"},
        "column 'boxes' holds 'here'; write",
    ),
    "a sound that is not there": (
        "speech",
        {"audio": "a.wav", "target_text": "x"},
        "names 'a.wav', and there is no",
    ),
    "a sound from outside": ("speech", {"audio": "../a.wav", "target_text": "x"}, "outside the folder"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_cannot_stand_in_its_column_is_named(case: str, tmp_path: Path) -> None:
    task, row, message = UNFIT[case]
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=rf"rows\.jsonl.*{message}"):
        ingest(source_of(task, tmp_path / "rows.jsonl"), tmp_path / "raw")


def test_parquet_holds_sounds_as_bytes_and_boxes_as_structs(tmp_path: Path) -> None:
    sounds = pa.array([{"bytes": b"RIFF", "path": None}, {"bytes": b"", "path": None}], ENCODED)
    pq.write_table(pa.table({"audio": sounds, "target_text": ["one", "two"]}), tmp_path / "a.parquet")
    ingest(source_of("speech", tmp_path / "a.parquet"), tmp_path / "raw")
    raw = Dataset(tmp_path / "raw")
    assert raw.split("all")["audio"].to_pylist()[0] == {"bytes": b"RIFF", "path": None}
    assert raw.manifest["types"] == {"audio": "audio", "target_text": "string"}
    pictures = pa.array([{"bytes": picture(1), "path": None}], ENCODED)
    boxes = pa.array([[box("cell")]], TYPES["boxes"])
    pq.write_table(pa.table({"image": pictures, "boxes": boxes}), tmp_path / "b.parquet")
    ingest(source_of("detection", tmp_path / "b.parquet"), tmp_path / "raw")
    raw = Dataset(tmp_path / "raw")
    assert raw.split("all")["boxes"].to_pylist() == [[box("cell")]]
    assert raw.labels == ("cell",)


# --- the dataset ------------------------------------------------------------------------------------------


def test_every_column_but_the_origin_counts_for_the_content_hash() -> None:
    row = {"text": "a", "target_text": "b", "stars": 1.5, "boxes": [box("x")], "origin": "here"}

    def hashed(**changes: Any) -> str:
        changed = row | changes
        arrays = {name: pa.array([value]) for name, value in changed.items()}
        return content_hash({"train": pa.table(arrays)})

    assert hashed() == hashed(origin="there")
    for change in ({"target_text": "c"}, {"stars": 2.0}, {"boxes": [box("x", 1)]}, {"boxes": []}):
        assert hashed() != hashed(**change), change


def test_a_dataset_of_today_has_the_format_that_older_versions_read(tmp_path: Path) -> None:
    labels = pa.array([["x"]], TYPES["strings"])
    old = write_dataset(tmp_path / "old", {"train": pa.table({"text": ["a"], "labels": labels})})
    new = write_dataset(tmp_path / "new", {"train": pa.table({"text": ["a"], "target_text": ["b"]})})
    assert (old["format_version"], "types" in old) == (1, False)
    assert (new["format_version"], new["types"]) == (2, {"target_text": "string"})
    assert Dataset(tmp_path / "new").labels == ()


# --- preprocess -------------------------------------------------------------------------------------------


def test_rows_without_an_input_or_a_target_are_left_out(tmp_path: Path) -> None:
    rows = [{"text": f"sentence number {n}", "target_text": f"Satz {n}"} for n in range(40)]
    rows[3]["text"], rows[5]["target_text"] = " ", None  # type: ignore[assignment]
    manifest = prepared("translation", tmp_path, rows)
    assert manifest["dropped"] == {"empty target text": 1, "empty text": 1}
    assert sum(manifest["rows"].values()) == 38 and manifest["columns"][-1] == "target_text"
    assert manifest["classes"] == {"train": {}, "validation": {}, "test": {}}
    assert "Classes" not in (tmp_path / "findings/report.html").read_text()


def test_several_translations_of_a_sentence_are_kept_and_counted(tmp_path: Path) -> None:
    rows = [{"text": f"sentence number {n}", "target_text": f"Satz {n}"} for n in range(40)]
    rows += [{"text": "Sentence number 1", "target_text": "Ein Satz"}, rows[2]]
    manifest = prepared("translation", tmp_path, rows)
    assert manifest["dropped"] == {"duplicate": 1}
    several = found(manifest, "conflicting_labels")
    assert several["count"] == 2 and several["note"].endswith("of which several may be right; all are kept")
    where = {}
    for name in ("train", "validation", "test"):
        where |= dict.fromkeys(Dataset(tmp_path / "out").split(name)["target_text"].to_pylist(), name)
    assert where["Ein Satz"] == where["Satz 1"]


def test_boxes_that_contradict_each_other_are_left_out(tmp_path: Path) -> None:
    rows = []
    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(picture(6 * number))
        rows.append({"image": f"{number}.png", "boxes": [box("cell")] * (number % 3)})
    rows += [{"image": "0.png", "boxes": [box("cell", 2)]}, {"image": "1.png", "boxes": None}]
    checks = Checks(near_duplicates="off", conflicting_labels="warn")
    manifest = prepared("detection", tmp_path, rows, checks)
    assert manifest["dropped"] == {"conflicting targets": 2, "missing boxes": 1}
    assert manifest["classes"]["train"].keys() == {"cell"} == manifest["class_shares"].keys()


def test_sounds_are_told_apart_by_their_bytes(tmp_path: Path) -> None:
    rows = []
    for number in range(30):
        noise = np.random.default_rng(number).normal(0, 0.1, 1600)
        (tmp_path / f"{number}.wav").write_bytes(encode_wav(noise, 8000))
        rows.append({"audio": f"{number}.wav", "target_text": "one"})
    (tmp_path / "empty.wav").write_bytes(b"")
    rows += [{"audio": "empty.wav", "target_text": "one"}, {"audio": "2.wav", "target_text": "one"}]
    manifest = prepared("speech", tmp_path, rows)
    assert manifest["dropped"] == {"duplicate": 1, "no audio": 1}
    assert manifest["schema"]["audio"]["type"] == "encoded audio"
    (near,) = (check for check in manifest["checks"] if check["name"] == "near_duplicates")
    assert near["count"] == 0


def test_rows_without_a_target_of_their_own_need_none(tmp_path: Path) -> None:
    manifest = prepared("reading", tmp_path, [{"text": f"a text of its own, {n}"} for n in range(30)])
    assert sum(manifest["rows"].values()) == 30 and manifest["columns"] == ["text", "origin"]


def test_a_quota_of_each_class_needs_classes(tmp_path: Path) -> None:
    rows = [{"text": f"sentence number {n}", "target_text": f"Satz {n}"} for n in range(30)]
    with pytest.raises(UserError, match=r"split\.train_per_class counts rows of a class"):
        prepared("translation", tmp_path, rows, train_per_class=3)
    assert sum(prepared("translation", tmp_path, rows, limit=12)["rows"].values()) <= 13


def test_classes_are_chosen_among_labels_alone(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,target_text\na,b\n")
    with pytest.raises(UserError, match=r"source\.classes chooses among labels, and the task reads none"):
        ingest(source_of("translation", tmp_path / "a.csv", classes=("x",)), tmp_path / "raw")


def test_drift_is_sought_among_what_is_measured(tmp_path: Path) -> None:
    sentences = [{"text": f"sentence number {n}", "target_text": f"Satz {n}"} for n in range(60)]
    sounds = []
    for number in range(60):
        noise = np.random.default_rng(number).normal(0, 0.1, 1600)
        (tmp_path / f"{number}.wav").write_bytes(encode_wav(noise, 8000))
        sounds.append({"audio": f"{number}.wav", "target_text": "one"})
    for task, rows in (("translation", sentences), ("speech", sounds)):
        prepared(task, tmp_path, rows)
        profile = read_profile(tmp_path / "out" / "profile.parquet")
        assert profile is not None and profile.rows >= 10
        assert compare(profile, profile).keys() == {"inputs"}


def test_picked_rows_share_the_bytes_of_the_table() -> None:
    """`Table.take` would copy them into one array, whose offsets overflow beyond 2 GiB."""
    images = [{"bytes": bytes([number]) * 10_000, "path": None} for number in range(8)]
    table = pa.table({"image": pa.array(images, ENCODED), "row": pa.array(range(8))})
    before = pa.total_allocated_bytes()
    found = picked(table, np.array([5, 1, 1]))
    assert pa.total_allocated_bytes() == before
    assert found["row"].to_pylist() == [5, 1, 1] and found["image"][0].as_py() == images[5]
    assert picked(table, []).schema == table.schema and len(picked(table, [])) == 0
