"""Mistakes in naming the source: a test set that is the training data, ids spelt twice, unknown keys."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from retrainer.data.id_spelling import plain
from retrainer.data.ingest import ingest
from retrainer.errors import SettingError, UserError
from retrainer.resolve import pin_code_and_weights, validate
from retrainer.settings import Checks, Source
from tests.raw_rows import run, words
from tests.source_files import PHOTOS, as_directory, written

ROWS = "text,label\n" + "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(20))


def refused(path: Path, test: Path, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        ingest(Source(path=str(path), test_path=str(test)), path.parent / "raw")


def test_a_test_set_that_is_the_training_file_is_refused(tmp_path: Path) -> None:
    table = Path(written(tmp_path / "a.csv", ROWS))
    refused(table, table, r"source\.test_path is source\.path itself")
    refused(table, tmp_path / "." / "a.csv", r"source\.test_path is source\.path itself")
    (tmp_path / "link.csv").symlink_to(table)
    refused(table, tmp_path / "link.csv", r"source\.test_path is source\.path itself")
    shutil.copy(table, tmp_path / "copy.csv")
    refused(table, tmp_path / "copy.csv", r"copy\.csv is a copy of .*a\.csv, byte for byte")


def test_a_test_set_inside_the_training_data_is_refused(tmp_path: Path) -> None:
    photos = as_directory(tmp_path, PHOTOS)
    refused(photos, photos, r"is source\.path itself")
    refused(photos, photos / "cat", r"photos/cat lies in source\.path")
    table = Path(written(tmp_path / "months" / "a.csv", ROWS))
    written(tmp_path / "months" / "b.csv", ROWS.replace("row", "further"))
    refused(table.parent, table, r"months/a\.csv lies in source\.path")
    shutil.copytree(photos, tmp_path / "again")
    refused(photos, tmp_path / "again", r"again is a copy of")


def test_other_test_sets_are_not(tmp_path: Path) -> None:
    """Tables of another folder below, or beside, and one that shares a photograph or a few rows."""
    path = Path(written(tmp_path / "data" / "a.csv", ROWS))
    below = written(tmp_path / "data" / "held" / "b.csv", ROWS.replace("row", "other"))
    beside = written(tmp_path / "data" / "c.csv", ROWS.replace("row 1", "other"))
    for name, source in (("below", path.parent), ("beside", path)):
        test = below if name == "below" else beside
        if name == "below":
            Path(beside).rename(tmp_path / "c.csv")
            beside = str(tmp_path / "c.csv")
        manifest = ingest(Source(path=str(source), test_path=test), tmp_path / f"raw-{name}")
        assert manifest["rows"] == {"all": 20, "given_test": 20}


def test_training_rows_that_are_all_tested_are_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"left to train on; dropped: 20 also in the test set; give training rows"
    ):
        run(tmp_path, words(20), words(20)[::-1])


# --- ids -------------------------------------------------------------------------------------------------


def found(folder: Path, rows: list[dict], test: list[dict] | None = None, **checks: str) -> dict | None:
    manifest = run(folder, rows, test, checks=Checks.parse(checks, "checks"))
    return next((one for one in manifest["checks"] if one["name"] == "id_spelling"), None)


def with_ids(first: int, count: int, form: str) -> list[dict]:
    return [row | {"id": form.format(first + n), "text": f"{form} {n}"} for n, row in enumerate(words(count))]


def test_ids_of_test_rows_that_lost_their_zeros_are_told(tmp_path: Path) -> None:
    check = found(tmp_path, with_ids(0, 40, "{:05}"), with_ids(30, 20, "{}"))
    assert check is not None and check["count"] == 10 and "30 = 00030" in check["examples"]
    with pytest.raises(UserError, match=r"checks\.id_spelling: 10 groups, or ids of your own test"):
        found(tmp_path / "error", with_ids(0, 40, "P-{:05}"), with_ids(30, 20, "p-{}"), id_spelling="error")
    assert (
        found(tmp_path / "off", with_ids(0, 40, "{:05}"), with_ids(30, 20, "{}"), id_spelling="off")["level"]
        == "off"
    )


def test_ids_that_are_the_same_or_others_are_not(tmp_path: Path) -> None:
    """Files that both count from 1 have the same ids, and mean nothing by it."""
    same = found(tmp_path / "same", with_ids(0, 40, "{}"), with_ids(0, 20, "{} "), test_overlap="warn")
    assert same is not None
    assert (
        found(
            tmp_path / "counted",
            with_ids(0, 40, "{}"),
            [r | {"text": f"t{r['id']}"} for r in with_ids(0, 20, "{}")],
        )
        is None
    )
    assert found(tmp_path / "others", with_ids(0, 40, "{:05}"), with_ids(40, 20, "{}")) is None
    assert found(tmp_path / "alone", with_ids(0, 40, "{:05}")) is None


def test_groups_that_are_spelt_twice_are_told(tmp_path: Path) -> None:
    names = {0: "07", 1: "7", 2: "Ann", 3: "ann "}
    rows = [row | {"group": names.get(n, f"g{n}")} for n, row in enumerate(words(40))]
    check = found(tmp_path, rows)
    assert check is not None and check["count"] == 2
    assert check["examples"] == ["07 = 7", "Ann = ann"]


def test_decimals_and_zeros_inside_a_number_count() -> None:
    assert plain("1.05") != plain("1.5") and plain("100") != plain("1") and plain("0") == plain("00")
    assert plain("P 007b") == plain("p7B") and plain("2024-01-05") == plain("2024-1-5")


# --- keys ------------------------------------------------------------------------------------------------


def resolved(folder: Path, **source: object) -> None:
    sections = validate({"source": {"path": "x.csv", **source}})
    pin_code_and_weights(sections, folder, folder, {})


TYPED, BARE = {"kind": "mistyped.typed"}, {"kind": "mistyped.bare"}


@pytest.mark.parametrize(
    ("source", "key", "meant"),
    [
        ({"lable": "kind"}, "lable", "label"),
        ({"kind": "parallel_text", "test_pth": "x"}, "test_pth", "test_path"),
        ({"kind": "audio_folder", "patern": "x"}, "patern", "pattern"),
        (TYPED | {"querry": "x"}, "querry", "query"),
        (TYPED | {"query": "x", "lable": "y"}, "lable", "label"),
        (BARE | {"lable": "kind"}, "lable", "label"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    source: dict, key: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = "def files(source):\n    return []\n\n\ndef read(source):\n    return iter(())\n"
    typed = "from retrainer.settings import Section\n\n\nclass Options(Section):\n    query: str\n\n\n"
    for name, text in (("typed", typed + plugin), ("bare", plugin)):
        written(tmp_path / "mistyped" / f"{name}.py", text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SettingError, match=rf"unknown setting source\.{key}; did you mean '{meant}'\?"
    ) as caught:
        resolved(tmp_path, **source)
    assert str(caught.value).endswith("names none of its own in Options") == (
        source.get("kind") == BARE["kind"]
    )
