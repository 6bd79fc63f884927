"""Sound files by their names, a table beside them, or folders; the same from a folder and an archive."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrainer.data.sources import audio_folder
from retrainer.errors import UserError
from retrainer.formats.audio import encode_wav
from retrainer.settings import Source

CLIP = encode_wav(np.zeros(100, np.float32), 8000)
DIGITS = {"0": "zero", "1": "one"}


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(CLIP + name.encode() * 2)
    return root


def rows(path: Path, **settings: Any) -> list[dict[str, Any]]:
    source = Source.parse({"kind": "audio_folder", "path": str(path), **settings}, "source")
    table = pa.concat_tables(list(audio_folder.read(source)), promote_options="default")
    return sorted(table.to_pylist(), key=lambda row: row["origin"])


def test_names_tell_transcript_and_speaker(tmp_path: Path) -> None:
    put(tmp_path / "data", "recordings/0_theo_3.wav", "recordings/1_lucas_0.wav")
    found = rows(
        tmp_path / "data", pattern="{text}_{group}_{index}.wav", spelling=DIGITS, test_groups=["theo"]
    )
    assert [(r["target_text"], r["group"], r["given_test"]) for r in found] == [
        ("zero", "theo", True),
        ("one", "lucas", False),
    ]
    assert found[0]["audio"]["bytes"].startswith(b"RIFF")
    assert found[0]["origin"] == "data/recordings/0_theo_3.wav"


def test_an_archive_gives_the_rows_of_its_folder(tmp_path: Path) -> None:
    put(tmp_path / "data", "7_a_0.wav", "8_b_1.wav")
    packed = shutil.make_archive(str(tmp_path / "data"), "zip", tmp_path / "data")
    pattern = {"pattern": "{label}_{group}_{id}.wav", "metadata": ["label"]}
    from_folder, from_archive = rows(tmp_path / "data", **pattern), rows(Path(packed), **pattern)
    assert [r | {"origin": ""} for r in from_folder] == [r | {"origin": ""} for r in from_archive]
    assert from_folder[0]["labels"] == ["7"] and from_folder[0]["metadata"] == '{"label":"7"}'
    assert from_archive[0]["origin"] == "data.zip:7_a_0.wav"


def test_a_pattern_may_have_folders(tmp_path: Path) -> None:
    put(tmp_path, "84/121/a b.flac", "85/7/c.flac")
    found = rows(tmp_path, pattern="{group}/{chapter}/{text}.flac")
    assert [(r["group"], r["target_text"]) for r in found] == [("84", "a b"), ("85", "c")]


@pytest.mark.parametrize(("suffix", "mark"), [(".csv", ","), (".tsv", "\t")])
def test_a_table_names_the_files(tmp_path: Path, suffix: str, mark: str) -> None:
    put(tmp_path, "clips/a.wav", "clips/b.wav")
    lines = ["path,text,group", "clips/a.wav,hello there,ann", "", "clips/b.wav,bye,bob"]
    (tmp_path / f"list{suffix}").write_text("\n".join(lines).replace(",", mark))
    found = rows(tmp_path, test_groups=["bob"])
    assert [(r["target_text"], r["group"], r["given_test"]) for r in found] == [
        ("hello there", "ann", False),
        ("bye", "bob", True),
    ]


def test_a_sound_that_the_table_does_not_name_is_a_row_without_content(tmp_path: Path) -> None:
    put(tmp_path, "a.wav", "forgotten.wav")
    (tmp_path / "metadata.csv").write_text("path,text\na.wav,hello\n")
    assert [row["target_text"] for row in rows(tmp_path)] == ["hello", None]


def test_class_folders_with_an_own_test(tmp_path: Path) -> None:
    put(tmp_path / "words", "train/yes/a.wav", "train/no/b.wav", "test/yes/c.wav")
    found = rows(tmp_path / "words")
    assert [(r["labels"], r["given_test"]) for r in found] == [
        (["yes"], True),
        (["no"], False),
        (["yes"], False),
    ]


def test_pieces_of_a_recording_share_a_split_and_are_no_two_sessions(tmp_path: Path) -> None:
    put(tmp_path / "words", "yes/a.wav", "no/b.wav")
    (tmp_path / "words/yes/long.wav").write_bytes(encode_wav(np.ones(800, np.float32), 8000))
    found = rows(tmp_path / "words", piece_seconds=0.05)
    names = ["words/no/b.wav", "words/yes/a.wav", *2 * ["words/yes/long.wav"]]
    assert [row["group"] for row in found] == names
    found = rows(tmp_path / "words", piece_seconds=0.05, columns={"audio": "audio", "group": "string"})
    assert [row["group"] for row in found] == ["no", "yes", "yes", "yes"]
    assert json.loads(found[3]["metadata"]) == {"session": "words/yes/long.wav"}
    with pytest.raises(UserError, match="which words of a transcript are in which piece"):
        rows(tmp_path / "words/yes", pattern="{text}.wav", piece_seconds=0.05)


def test_a_test_path_is_the_own_test(tmp_path: Path) -> None:
    put(tmp_path / "one", "yes/a.wav", "no/b.wav"), put(tmp_path / "two", "yes/c.wav", "no/d.wav")
    found = rows(tmp_path / "one", test_path=str(tmp_path / "two"))
    assert [r["given_test"] for r in found] == [False, False, True, True]
    source = Source.parse({"path": str(tmp_path / "one"), "test_path": str(tmp_path / "two")}, "source")
    assert len(audio_folder.files(source)) == 4


def test_a_file_that_fits_no_pattern_says_nothing(tmp_path: Path) -> None:
    put(tmp_path, "0_theo_1.wav", "noise.wav")
    found = rows(tmp_path, pattern="{text}_{group}_{index}.wav")
    assert [r["target_text"] for r in found] == ["0", None]


REFUSED: dict[str, tuple[list[str], str, dict[str, Any], str]] = {
    "no sound": (["a.txt"], "", {}, "holds no sound file"),
    "pattern fits nothing": (["a.wav"], "", {"pattern": "{text}_{group}.wav"}, "fits no file"),
    "pattern without content": (["a.wav"], "", {"pattern": "{group}.wav"}, "needs {text} or {label}"),
    "unknown group": (
        ["0_a_1.wav"],
        "",
        {"pattern": "{text}_{group}_{i}.wav", "test_groups": ["b"]},
        "no row is of",
    ),
    "unknown metadata": (["0.wav"], "", {"pattern": "{text}.wav", "metadata": ["age"]}, "no 'age' is known"),
    "no such column": (["a.wav"], "path,words\na.wav,x\n", {}, "no column 'text' or 'label'"),
    "no path": (["a.wav"], "sound,text\na.wav,x\n", {}, "no column 'path'"),
    "no such file": (["a.wav"], "path,text\nb.wav,x\n", {}, "row 1: there is no file b.wav"),
    "out of the folder": (["a.wav"], "path,text\n../b.wav,x\n", {}, "row 1"),
    "ragged": (["a.wav"], "path,text\na.wav,x,y\n", {}, "row 1: 3 fields"),
    "open quote": (["a.wav"], 'path,text\na.wav,"x\n', {}, "never closed"),
    "wrong option": (["a.wav"], "", {"pattern": ["{text}.wav"]}, "setting source.pattern"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, case: str) -> None:
    names, table, settings, reason = REFUSED[case]
    put(tmp_path, *names)
    if table:
        (tmp_path / "metadata.csv").write_text(table)
    with pytest.raises(UserError) as caught:
        rows(tmp_path, **settings)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
