"""Rows from CSV, JSONL and Parquet, sound and broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrainer.data.fingerprint import source_digest
from retrainer.data.ingest import ingest
from retrainer.errors import UserError
from retrainer.settings import Source
from tests.source_files import png, read, rows_of, written


def test_csv_keeps_newlines_inside_quotes_and_numbers_records(tmp_path):
    path = written(tmp_path / "a.csv", '\ufefftext,label\r\n"one\ntwo, ""three""",x\r\n\r\nNA,2\r\n')
    rows = read(tmp_path, path=path)
    assert rows == [
        {"text": 'one\ntwo, "three"', "labels": ["x"], "origin": "a.csv:row 1"},
        {"text": "NA", "labels": ["2"], "origin": "a.csv:row 2"},
    ]


def test_csv_takes_optional_columns_and_separates_labels(tmp_path):
    header = "q,text_pair,tags,group,time,id,ignored\n"
    path = written(tmp_path / "a.csv", header + "a,b,x | y,g,2024-01-01,7,z\nc,d,,,,8,z\n")
    first, second = read(tmp_path, path=path, text="q", label="tags", label_separator="|")
    assert first == {
        "text": "a",
        "text_pair": "b",
        "labels": ["x ", " y"],
        "group": "g",
        "time": "2024-01-01",
        "id": "7",
        "origin": "a.csv:row 1",
    }
    assert second["labels"] == []


def test_tab_separated_and_a_folder_of_parts(tmp_path):
    written(tmp_path / "parts/b.tsv", "text\tlabel\nx, y\t1\n")
    written(tmp_path / "parts/a.csv", "text,label\nz,2\n")
    rows = read(tmp_path, path=str(tmp_path / "parts"))
    assert [(row["text"], row["origin"]) for row in rows] == [("z", "a.csv:row 1"), ("x, y", "b.tsv:row 1")]


def test_jsonl_turns_plain_values_into_text(tmp_path):
    lines = [
        {"text": "a", "label": 3, "id": 1.0},
        {"text": 7, "label": [True, "x"], "group": "g"},
        {"text": None, "label": None},
        {"text": "b", "label": 2.0},
    ]
    path = written(tmp_path / "a.jsonl", "\n\n".join(json.dumps(line) for line in lines))
    rows = read(tmp_path, path=path)
    assert [row["labels"] for row in rows] == [["3"], ["true", "x"], None, ["2"]]
    assert [row["text"] for row in rows] == ["a", "7", None, "b"]
    assert rows[0]["id"] == "1" and rows[1]["group"] == "g" and rows[1]["origin"] == "a.jsonl:row 3"


def test_parquet_reads_class_labels_images_and_times(tmp_path):
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    images = pa.array([{"bytes": png(1), "path": None}, {"bytes": png(2), "path": "x.png"}, None])
    table = pa.table(
        {
            "image": images,
            "label": pa.array([1, 0, -1]),
            "time": pa.array([1, 2, 3], pa.timestamp("ns")),
            "group": pa.array([1.0, None, 3.0]),
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(tmp_path, path=str(tmp_path / "a.parquet"))
    assert [row["labels"] for row in rows] == [["dog"], ["cat"], None]
    assert [row["image"] and row["image"]["bytes"] for row in rows] == [png(1), png(2), None]
    assert [row["group"] for row in rows] == ["1", None, "3"]
    assert rows[0]["time"].startswith("1970-01-01 00:00:00.000000001")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_text_of_any_string_type(tmp_path, kind):
    table = pa.table({"text": pa.array(["a", "b"]).cast(kind), "label": pa.array([["x", "y"], []])})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(tmp_path, path=str(tmp_path / "a.parquet"))
    assert [(row["text"], row["labels"]) for row in rows] == [("a", ["x", "y"]), ("b", [])]


def table_of(kind: str, folder: Path, image: str) -> str:
    """A table of one row in each format, whose image is named by a path."""
    if kind == "csv":
        return written(folder / "a.csv", f"image,label\n{image},x\n")
    if kind == "jsonl":
        return written(folder / "a.jsonl", json.dumps({"image": image, "label": "x"}) + "\n")
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": [image], "label": ["x"]}), folder / "a.parquet")
    return str(folder / "a.parquet")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_images_beside_the_table_are_read_and_counted_in_the_digest(tmp_path, kind):
    image = tmp_path / "photos/1.png"
    written(image, png(1))
    source = Source(path=table_of(kind, tmp_path, "photos/1.png"))
    before = source_digest(source)
    assert read(tmp_path, **source.plain())[0]["image"]["bytes"] == png(1)
    image.write_bytes(png(2))
    assert source_digest(source) != before


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/hostname", "link.png", "absent.png", ".", "a\0b", "x" * 5000]
)
def test_an_image_path_never_leaves_the_folder_of_its_table(tmp_path, kind, name):
    written(tmp_path / "secret.png", png(1))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    path = table_of(kind, folder, name)
    with pytest.raises(UserError, match=r"a\.(csv|jsonl|parquet).*(column 'image' (names|holds) '|NUL)"):
        ingest(Source(path=path), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


BAD_TABLES = {
    "no label": (
        "a.csv",
        "text,y\na,b\n",
        {},
        r"a\.csv has no column 'label'; its columns: 'text', 'y'; set source.label",
    ),
    "no text": (
        "a.csv",
        "label,y\na,b\n",
        {},
        r"has no column 'text', nor 'image' \(source.image\).*set source.text",
    ),
    "named group": ("a.csv", "text,label\na,b\n", {"group": "who"}, "no column 'who'.*set source.group"),
    "semicolons": ("a.csv", "text;label\na;b\n", {}, "no column 'label'.*separated by commas"),
    "two columns": ("a.csv", "text,text,label\na,b,c\n", {}, "two columns are named 'text'"),
    "ragged": ("a.csv", "text,label\na,b\nc,d,e\n", {}, r"a\.csv:row 2: 3 fields where the header names 2"),
    "open quote": ("a.csv", 'text,label\na,b\n"c,d\ne,f\n', {}, r"a\.csv:row 2: .*never closed"),
    "not utf-8": ("a.csv", b"text,label\na,b\ncaf\xe9,d\n", {}, r"a\.csv: not UTF-8 text.*save it as UTF-8"),
    "utf-16": ("a.csv", "text,label\n".encode("utf-16"), {}, "not UTF-8"),
    "empty": ("a.csv", "", {}, r"a\.csv is empty"),
    "only a header": ("a.csv", "text,label\n", {}, r"a\.csv has no rows"),
    "empty jsonl": ("a.jsonl", "\n\n", {}, r"a\.jsonl has no rows"),
    "not json": ("a.jsonl", '{"text": "a", "label": 1}\n{"text"\n', {}, r"a\.jsonl:row 2: not JSON"),
    "not an object": ("a.jsonl", "[1]\n", {}, r"a\.jsonl:row 1: a list, not an object"),
    "deep json": ("a.jsonl", "[" * 100_000 + "\n", {}, r"a\.jsonl:row 1: not JSON"),
    "jsonl not utf-8": ("a.jsonl", b'{"text": "\xff"}\n', {}, r"a\.jsonl:row 1: not UTF-8"),
    "no key": ("a.jsonl", '{"text": "a"}\n', {}, "no column 'label'.*set source.label"),
    "text a list": ("a.jsonl", '{"text": [1], "label": 1}\n', {}, r"row 1: column 'text' holds a list"),
    "fraction": ("a.jsonl", '{"text": "a", "label": 0.5}\n', {}, r"row 1: column 'label' holds 0\.5"),
    "label an object": ("a.jsonl", '{"text": "a", "label": {}}\n', {}, r"column 'label' holds a dict"),
    "image a path in an object": (
        "a.jsonl",
        '{"image": {"path": "x.png"}, "label": 1}\n',
        {},
        "column 'image' has a path and no bytes",
    ),
    "image a number": ("a.jsonl", '{"image": 3, "label": 1}\n', {}, "column 'image' holds a int"),
    "not parquet": ("a.parquet", b"PAR1 nonsense PAR1", {}, r"a\.parquet is not a whole Parquet file"),
    "empty parquet": ("a.parquet", b"", {}, r"a\.parquet is not a whole Parquet file"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_is_an_error_that_names_the_cure(tmp_path, name):
    file, content, options, message = BAD_TABLES[name]
    path = written(tmp_path / file, content)
    with pytest.raises(UserError, match=message) as error:
        ingest(Source(path=path, **options), tmp_path / "raw")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "raw").exists()


def test_a_damaged_parquet_file_never_fails_in_another_way(tmp_path):
    table = pa.table({"text": [f"text {n}" for n in range(50)], "label": ["a", "b"] * 25})
    pq.write_table(table, tmp_path / "sound.parquet")
    sound = (tmp_path / "sound.parquet").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(sound)
        for place in rng.integers(0, len(sound), 3):
            damaged[place] ^= int(rng.integers(1, 256))
        path = written(tmp_path / "a.parquet", bytes(damaged))
        try:
            ingest(Source(path=path), tmp_path / "raw")
        except UserError as error:
            assert "a.parquet" in str(error)


def test_banking77_has_newlines_inside_quotes(tmp_path, shared_data):
    folder = shared_data / "banking77"
    source = {"path": str(folder / "train.csv"), "test_path": str(folder / "test.csv"), "label": "category"}
    rows = read(tmp_path, **source)
    assert len(rows) == 10_003 and len(rows_of(tmp_path / "raw", "given_test")) == 3_080
    assert any("\n" in row["text"] for row in rows) and len({row["labels"][0] for row in rows}) == 77
