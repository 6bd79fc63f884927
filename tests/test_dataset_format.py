"""The dataset on disk: what other tools read, what a reader refuses, and what the content hash depends on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrainer.data.sources._columns import encoded_array
from retrainer.data.sources._png import grey_png
from retrainer.errors import UserError
from retrainer.formats import dataset as dataset_format
from retrainer.formats.dataset import SCHEMA, About, Dataset, content_hash, write_dataset

SHADES = [0, 90, 255, 7]


def sample(**columns: list) -> pa.Table:
    """Four rows of every column."""
    made = {
        "text": ["a", "b", "c", "d"],
        "text_pair": ["e", None, "g", "h"],
        "labels": [["x"], ["y", "x"], [], None],
        "group": ["g", "g", None, "h"],
        "time": ["2024", None, None, None],
        "id": ["1", "2", "3", "4"],
        "metadata": ['{"region":"north"}', '{"region":null}', None, None],
        "origin": ["f:row 1", "f:row 2", "f:row 3", "f:row 4"],
    } | columns
    image = encoded_array([grey_png(np.full((3, 2), shade, np.uint8)) for shade in SHADES])
    return pa.table(
        {"image": image} | {name: pa.array(values, SCHEMA[name]) for name, values in made.items()}
    )


def test_what_is_written_is_read_back_and_counted(tmp_path):
    dropped = pa.table({"origin": ["f:row 9", "f:row 10"], "reason": ["duplicate", "duplicate"]})
    manifest = write_dataset(tmp_path / "d", {"train": sample()}, About(dropped, extra={"warnings": ["w"]}))
    read = Dataset(tmp_path / "d")
    assert read.manifest == manifest == json.loads((tmp_path / "d/manifest.json").read_text())
    assert read.split("train").to_pylist() == sample().to_pylist()
    assert read.split("train", ["text", "absent"]).column_names == ["text"]
    assert read.labels == ("x", "y") and manifest["classes"]["train"] == {"x": 2, "y": 1}
    assert manifest["dropped"] == {"duplicate": 2} and manifest["warnings"] == ["w"]
    assert list(manifest["columns"]) == list(SCHEMA)


def test_shards_and_row_groups_change_no_content(tmp_path, monkeypatch):
    whole = write_dataset(tmp_path / "whole", {"train": sample()})
    monkeypatch.setattr(dataset_format, "ROWS_PER_SHARD", 3)
    monkeypatch.setattr(dataset_format, "FILES_PER_ROW_GROUP", 2)
    parts = write_dataset(tmp_path / "parts", {"train": sample()})
    assert sorted(parts["files"]) == ["train-00000.parquet", "train-00001.parquet"]
    assert pq.ParquetFile(tmp_path / "parts/train-00000.parquet").num_row_groups == 2
    assert parts["content_sha256"] == whole["content_sha256"]
    assert Dataset(tmp_path / "parts").split("train") == Dataset(tmp_path / "whole").split("train")


@settings(deadline=None)
@given(
    st.permutations(range(4)),
    st.sampled_from(["text", "text_pair", "labels", "group", "time", "id", "metadata"]),
)
def test_the_content_hash_knows_what_rows_say_not_where_they_stood(order, column):
    table = sample()
    before = content_hash({"train": table})
    assert content_hash({"train": table.take(pa.array(order))}) == before
    assert content_hash({"train": sample(origin=["elsewhere"] * 4)}) == before
    assert content_hash({"test": table}) != before
    assert content_hash({"train": table.slice(1)}) != before
    other = [["z"]] * 4 if column == "labels" else ["z"] * 4
    assert content_hash({"train": sample(**{column: other})}) != before


def test_one_bit_of_an_image_is_another_content():
    images = [bytes([n]) * 9 for n in range(4)]
    table = sample().drop_columns(["image"])
    first = table.append_column("image", encoded_array(images))
    other = table.append_column("image", encoded_array([*images[:3], images[3][:-1] + b"\xff"]))
    assert content_hash({"train": first}) != content_hash({"train": other})


def edited(directory: Path, **values: object) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps(manifest | values))


SPOILED = {
    "bit": (lambda d: (d / "train-00000.parquet").write_bytes(b"x"), r"train-00000\.parquet was altered"),
    "lost": (lambda d: (d / "train-00000.parquet").unlink(), r"train-00000\.parquet is missing"),
    "more": (lambda d: (d / "train-00001.parquet").write_bytes(b""), r"train-00001\.parquet does not belong"),
    "no manifest": (lambda d: (d / "manifest.json").unlink(), r"is not a dataset directory: manifest\.json"),
    "kind": (lambda d: edited(d, kind="model"), "holds a 'model', not a 'dataset'"),
    "version": (
        lambda d: edited(d, format_version=99),
        "has dataset format 99, this version reads 1, 2, 3; read it with retrainer .*which wrote it",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_reader_refuses_what_is_not_whole(tmp_path, name):
    spoil, message = SPOILED[name]
    write_dataset(tmp_path / "d", {"train": sample()})
    spoil(tmp_path / "d")
    with pytest.raises(UserError, match=message):
        Dataset(tmp_path / "d")


def test_an_absent_split_is_named(tmp_path):
    write_dataset(tmp_path / "d", {"train": sample()})
    with pytest.raises(UserError, match="has no split 'test'; it has train"):
        Dataset(tmp_path / "d").split("test")


def test_the_old_dataset_stays_until_the_new_one_is_whole(tmp_path):
    before = write_dataset(tmp_path / "d", {"train": sample()})
    with pytest.raises(pa.ArrowException):
        write_dataset(
            tmp_path / "d", {"train": sample().slice(1), "test": pa.table({"labels": ["not a list"]})}
        )
    assert Dataset(tmp_path / "d").manifest == before
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_hugging_face_datasets_opens_the_shards(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = pytest.importorskip("datasets")
    write_dataset(tmp_path / "d", {"train": sample(), "test": sample()})
    files = {split: str(tmp_path / f"d/{split}-*.parquet") for split in ("train", "test")}
    opened = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    rows = list(opened["train"])
    assert [row["image"].getpixel((0, 0)) for row in rows] == SHADES
    assert rows[0]["image"].size == (2, 3)
    assert [row["labels"] for row in rows] == [["x"], ["y", "x"], [], None]
    assert opened["test"][1]["text_pair"] is None and opened["test"].num_rows == 4
