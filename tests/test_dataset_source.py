"""A raw dataset as a source: exactly its rows again."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from retrainer.data.fingerprint import source_digest
from retrainer.data.ingest import ingest
from retrainer.data.preprocess import preprocess
from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.settings import Checks, Source, Split, Task
from tests.project import draw_stripes


def ingested(folder: Path, text: str, name: str = "raw", **more: str) -> Path:
    """A raw dataset of CSV rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.csv").write_text(text)
    ingest(Source(path=str(folder / "rows.csv"), **more), folder / name)
    return folder / name


def again(path: Path, out: Path, **more: str) -> Dataset:
    ingest(Source(kind="dataset", path=str(path), **more), out)
    return Dataset(out)


def columns(dataset: Dataset, split: str) -> pa.Table:
    return dataset.split(split).replace_schema_metadata(None)


def test_texts_come_back_row_for_row_with_their_origins(tmp_path: Path) -> None:
    rows = "".join(f'"text {n}",{"ab"[n % 2]},g{n % 3},id{n}\n' for n in range(25_000))
    raw = ingested(tmp_path, "text,label,group,id\n" + rows)
    back, first = again(raw, tmp_path / "again"), Dataset(raw)
    assert back.content_sha256 == first.content_sha256
    assert columns(back, "all") == columns(first, "all")
    assert back.split("all")["origin"][0].as_py() == "rows.csv:row 1"


def test_images_come_back_byte_for_byte(tmp_path: Path) -> None:
    draw_stripes(tmp_path / "stripes", rows=120)
    ingest(Source(path=str(tmp_path / "stripes")), tmp_path / "raw")
    back, first = again(tmp_path / "raw", tmp_path / "again"), Dataset(tmp_path / "raw")
    assert back.content_sha256 == first.content_sha256
    assert columns(back, "all")["image"] == columns(first, "all")["image"]


def test_an_own_test_set_stays_one_and_can_be_joined_by_another(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,label\nnine,a\n")
    raw = ingested(tmp_path, "text,label\none,a\ntwo,b\n", test_path=str(tmp_path / "test.csv"))
    assert again(raw, tmp_path / "again").manifest["rows"] == {"all": 2, "given_test": 1}
    other = ingested(tmp_path / "other", "text,label\nten,b\n")
    joined = again(raw, tmp_path / "joined", test_path=str(other))
    assert joined.split("given_test")["text"].to_pylist() == ["nine", "ten"]


def test_what_was_left_out_stays_out(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\none,a\ntwo,b\nthree,c\n")
    ingest(Source(path=str(tmp_path / "rows.csv"), classes=("a", "b")), tmp_path / "raw")
    assert (tmp_path / "raw" / "dropped.parquet").is_file()
    assert again(tmp_path / "raw", tmp_path / "again").split("all")["text"].to_pylist() == ["one", "two"]


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    one = Source(kind="dataset", path=str(ingested(tmp_path / "one", "text,label\none,a\n")))
    same = Source(kind="dataset", path=str(ingested(tmp_path / "same", "text,label\none,a\n")))
    other = Source(kind="dataset", path=str(ingested(tmp_path / "other", "text,label\ntwo,a\n")))
    assert source_digest(one) == source_digest(same) != source_digest(other)


def test_what_is_no_raw_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"source.path: there is no directory .*dvc pull"):
        again(tmp_path / "absent", tmp_path / "again")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"is not a dataset directory: manifest.json is missing"):
        again(tmp_path / "empty", tmp_path / "again")
    raw = ingested(tmp_path, "text,label\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(200)))
    preprocess(raw, tmp_path / "split", Split(), Checks(), Task())
    with pytest.raises(UserError, match=r"is split already; name the raw dataset"):
        again(tmp_path / "split", tmp_path / "again")
    shard = raw / "all-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"all-00000.parquet was altered"):
        again(raw, tmp_path / "again")


def test_an_own_validation_set_stays_or_joins_the_training_rows_and_no_other_is_made(tmp_path: Path) -> None:
    for name, words in (("train", "one two"), ("val", "three"), ("test", "four")):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / f"in/{name}.csv").write_text(
            "\n".join(["text,label", *(f"{w},a" for w in words.split())])
        )
    ingest(Source(path=str(tmp_path / "in")), tmp_path / "raw")
    counts = {"all": 2, "given_test": 1, "given_validation": 1}
    assert again(tmp_path / "raw", tmp_path / "again").manifest["rows"] == counts
    joined = again(tmp_path / "raw", tmp_path / "joined", validation="none")
    assert joined.manifest["rows"] == {"all": 3, "given_test": 1}
    with pytest.raises(UserError, match=r"^source\.validation: .* which has no 'dev'; leave it empty"):
        again(tmp_path / "raw", tmp_path / "other", validation="dev")
