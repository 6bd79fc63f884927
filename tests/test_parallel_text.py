"""Two files whose lines translate each other, as a source."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from retrainer.data.sources import parallel_text
from retrainer.errors import UserError
from retrainer.settings import Source

GERMAN, ENGLISH = "ein Hund\neine Katze\n", "a dog\na cat\n"


JOINS = {"given_test": False, "given_validation": False}


def rows(**options: str) -> list[dict[str, object]]:
    return pa.concat_tables(parallel_text.read(Source(kind="parallel_text", **options))).to_pylist()  # type: ignore[arg-type]


def write(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        path = folder / name.replace("_", ".")
        path.write_bytes(gzip.compress(data) if name.endswith("_gz") else data)
    return folder


def in_folder(folder: Path) -> list[dict[str, object]]:
    return rows(path=str(folder), text="de", target_text="en")


def test_line_n_of_one_file_translates_line_n_of_the_other(tmp_path: Path) -> None:
    write(tmp_path, a_de=GERMAN, b_en=ENGLISH)
    found = rows(path=str(tmp_path / "a.de"), target_path=str(tmp_path / "b.en"))
    assert found == [
        {"text": "ein Hund", "target_text": "a dog", "origin": "a.de:line 1", **JOINS},
        {"text": "eine Katze", "target_text": "a cat", "origin": "a.de:line 2", **JOINS},
    ]


def test_a_folder_has_its_own_test_files_and_may_be_packed(tmp_path: Path) -> None:
    write(tmp_path, train_de_gz=GERMAN, train_en_gz=ENGLISH, val_de="drei", val_en="three")
    write(tmp_path, test_de="vier\n", test_en="four\n", README_md="not a text")
    found = in_folder(tmp_path)
    assert [row["target_text"] for row in found] == ["four", "a dog", "a cat", "three"]
    assert [row["given_test"] for row in found] == [True, False, False, False]
    assert [row["given_validation"] for row in found] == [False, False, False, True]
    names = [
        path.name for path in parallel_text.files(Source(path=str(tmp_path), text="de", target_text="en"))
    ]
    assert names == ["test.de", "test.en", "train.de.gz", "train.en.gz", "val.de", "val.en"]


def test_a_test_set_beside_the_training_files(tmp_path: Path) -> None:
    write(tmp_path, a_de=GERMAN, a_en=ENGLISH, b_de="drei", b_en="three")
    paths = {key: str(tmp_path / name) for key, name in (
        ("path", "a.de"), ("target_path", "a.en"), ("test_path", "b.de"), ("test_target_path", "b.en"),
    )}  # fmt: skip
    assert [row["given_test"] for row in rows(**paths)] == [False, False, True]


def test_only_a_line_feed_ends_a_line_and_empty_lines_stay(tmp_path: Path) -> None:
    write(tmp_path, a_de="\ufeffeins\u2028zwei\r\n\ndrei", a_en="one\x85two\n\nthree")
    found = in_folder(tmp_path)
    assert [row["text"] for row in found] == ["eins\u2028zwei", "", "drei"]
    assert [row["target_text"] for row in found] == ["one\x85two", "", "three"]


def test_rows_come_in_chunks_with_their_own_line_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_text, "ROWS_PER_CHUNK", 2)
    write(tmp_path, a_de="1\n2\n3\n", a_en="a\nb\nc\n")
    source = Source(path=str(tmp_path), text="de", target_text="en")  # type: ignore[call-arg]
    chunks = [table["origin"].to_pylist() for table in parallel_text.read(source)]
    assert chunks == [["a.de:line 1", "a.de:line 2"], ["a.de:line 3"]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a_de": GERMAN, "a_en": "a dog\n"},
            "a.de has 2 lines and a.en has 1: line n of one must translate line n",
        ),
        ({"a_de": GERMAN, "a_en": ENGLISH + "\n"}, "a.de has 2 lines and a.en has 3: "),
        ({"a_de": GERMAN, "a_en": b"\xff\n\n"}, "a.en: not UTF-8 text in line 1; save it as UTF-8"),
        ({"a_de": GERMAN, "a_en": "a\0b\n\n"}, "a.en: line 1 has a NUL character"),
        ({"a_de": GERMAN, "a_en": ENGLISH, "b_en": "x"}, "b.en has no file beside it in the other language"),
        ({"a_de": GERMAN, "a_en": ENGLISH, "a_de_gz": GERMAN}, "a.de and a.de.gz are the same text"),
        ({"a_de": GERMAN, "a_em": ENGLISH}, r"source.target_text: .* has no file that ends with .en"),
        ({"a_en": ENGLISH}, r"source.text: .* has no file that ends with .de"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    files: dict[str, str | bytes], message: str, tmp_path: Path
) -> None:
    write(tmp_path, **files)
    with pytest.raises(UserError, match=message):
        in_folder(tmp_path)


def test_a_file_that_swells_or_breaks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a_de_gz="ja\n" * 100_000, a_en_gz="yes\n" * 100_000)
    assert len(in_folder(tmp_path)) == 100_000
    monkeypatch.setattr(parallel_text, "HARMLESS_BYTES", 1000)
    with pytest.raises(UserError, match=r"a\...\.gz: line \d+ is too long, or the file unpacks to more"):
        in_folder(tmp_path)
    whole = (tmp_path / "a.de.gz").read_bytes()
    (tmp_path / "a.de.gz").write_bytes(whole[: len(whole) // 2])
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"a\.de\.gz: it cannot be read after line \d+"):
        in_folder(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "source.path: it is not set; set it to a file of one text a line, and source.target_path"),
        ({"path": "nowhere"}, "source.path: there is no nowhere; set it"),
        ({"path": "a.de"}, "source.target_path: it is not set; set it to the file that translates a.de"),
        ({"path": "a.de", "target_path": "b"}, "source.target_path: there is no file b; set it"),
    ],
)
def test_a_missing_path_is_named(
    options: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(tmp_path, a_de=GERMAN))
    with pytest.raises(UserError, match=f"^{message}"):
        rows(**options)


def test_two_test_sets_are_refused(tmp_path: Path) -> None:
    write(tmp_path, train_de=GERMAN, train_en=ENGLISH, test_de="vier", test_en="four")
    with pytest.raises(UserError, match=r"^source.test_path is set, but source.path has a test set itself"):
        rows(path=str(tmp_path), test_path=str(tmp_path), text="de", target_text="en")


def test_a_validation_set_is_looked_for_in_a_folder_alone(tmp_path: Path) -> None:
    write(tmp_path, a_de=GERMAN, b_en=ENGLISH, val_de="drei", val_en="three")
    two = {"path": str(tmp_path / "a.de"), "target_path": str(tmp_path / "b.en")}
    with pytest.raises(
        UserError, match=r"^source\.validation: a\.de is one file, and has no 'val' beside it"
    ):
        rows(**two, validation="val")
    assert len(rows(**two, validation="none")) == 2
