"""Columns that are not what they are taken for: labels that number the rows, texts that were cut on the way,
a code for each class in place of the text; and many small classes, which are none of that."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retrainer.data.ingest import ingest
from retrainer.data.preprocess import preprocess
from retrainer.data.splits import components, position
from retrainer.data.unseen_classes import most_by_chance
from retrainer.errors import UserError
from retrainer.settings import Checks, Source, Split
from tests.raw_rows import TEXT, WARN, Row, run, told

WORDS = [f"{chr(97 + n % 26)}{chr(97 + n // 26)}{'word'[: n % 5]}" for n in range(500)]
CLASSES = ("cards", "loans", "savings", "transfers")


def texts(count: int, seed: int = 0, classes: int = 4) -> list[Row]:
    """Questions of 8 to 20 words, like no others."""
    draw = np.random.default_rng(seed)
    return [
        {"text": " ".join(draw.choice(WORDS, draw.integers(8, 21))), "labels": [f"class {n % classes}"]}
        for n in range(count)
    ]


# --- labels that are ids ------------------------------------------------------------------------------------


def test_a_label_that_numbers_the_rows_stops_and_names_its_column(tmp_path: Path) -> None:
    lines = [f"{row['text']},{n:05}" for n, row in enumerate(texts(200))]
    for part, rows in (("train", lines[:160]), ("test", lines[160:])):
        (tmp_path / f"{part}.csv").write_text("\n".join(["question,ticket", *rows]))
    paths = {"path": str(tmp_path / "train.csv"), "test_path": str(tmp_path / "test.csv")}
    source = Source.parse({**paths, "text": "question", "label": "ticket"}, "source")
    ingest(source, tmp_path / "raw")
    with pytest.raises(UserError) as caught:
        preprocess(tmp_path / "raw", tmp_path / "out", Split(), Checks(), TEXT)
    line = str(caught.value)
    assert line.startswith("checks.unique_labels: 160 of 160 rows have a label that no other row has: ")
    assert (
        "the column 'ticket' looks like an id, which names no classes" in line
        and "set source.label to the column" in line
    )
    assert "set checks: {unique_labels: warn}" in line and "\n" not in line


def test_rare_classes_are_no_ids(tmp_path: Path) -> None:
    """A third of the rows has a class of its own, as of 13,233 photographs of faces 4,069 have."""
    rows = [*texts(200), *({**row, "labels": [f"person {n}"]} for n, row in enumerate(texts(100, 1)))]
    assert told(run(tmp_path, rows))["unique_labels"][0] == 100
    few = [*texts(200), *({**row, "labels": [f"person {n}"]} for n, row in enumerate(texts(19, 1)))]
    assert "unique_labels" not in told(run(tmp_path, few))
    limits = Checks.parse({"unique_labels": 0.3}, "checks")
    with pytest.raises(UserError, match=r"^checks\.unique_labels: 100 of 300 rows .*: 33%, and more"):
        run(tmp_path, rows, None, TEXT, limits)


# --- many small classes -------------------------------------------------------------------------------------


QUICK = dict.fromkeys(("near_duplicates", "leaks", "shortcuts", "label_noise", "shifted_labels"), "off")


def small_classes(count: int, rows: int = 3) -> list[Row]:
    return [{**row, "labels": [f"class {n // rows}"]} for n, row in enumerate(texts(count * rows, 2))]


@pytest.mark.parametrize("salt", ["a", "b", "c"])
def test_of_many_classes_of_three_rows_some_miss_the_training_rows_by_chance(
    salt: str, tmp_path: Path
) -> None:
    """2.7% of the classes: each in both parts that are held out, or all in one."""
    manifest = run(tmp_path, small_classes(300), None, TEXT, Checks.parse(QUICK, "checks"), salt=salt)
    found = [one for one in manifest["checks"] if one["name"] == "unseen_class" and one["count"]]
    assert found and all(one["share"] == 0 for one in found)


def test_small_classes_that_were_not_exported_stop(tmp_path: Path) -> None:
    rows = small_classes(300)
    test, train = rows[::3], [row for n, row in enumerate(rows) if n % 3]
    lost = {f"class {n}" for n in range(80)}
    checks = Checks.parse(QUICK, "checks")
    run(tmp_path, train, test, TEXT, checks, validation=0)
    kept = [row for row in train if row["labels"][0] not in lost]
    with pytest.raises(UserError, match=r"^checks\.unseen_class: 80 classes of test that train never sees"):
        run(tmp_path, kept, test, TEXT, checks, validation=0)


def test_one_group_may_be_all_there_is_of_a_class(tmp_path: Path) -> None:
    rows = [
        *({**row, "group": f"patient {n % 40}"} for n, row in enumerate(texts(400))),
        *({**row, "group": "patient x", "labels": ["rare"]} for row in texts(30, 4)),
    ]
    in_test = next(salt for salt in map(str, range(99)) if position(_group("patient x"), salt) < 0.2)
    manifest = run(tmp_path, rows, None, TEXT, Checks.parse(QUICK, "checks"), salt=in_test)
    (found,) = [one for one in manifest["checks"] if one["name"] == "unseen_class" and one["count"]]
    assert found["examples"] == ["rare"] and found["share"] == 0


def _group(name: str) -> bytes:
    (component,) = components([b"key"], [name])
    return component


@pytest.mark.parametrize(("units", "outside"), [([3] * 300, 0.3), ([1] * 20, 0.3), ([5, 40, 40], 0.3)])
def test_chance_leaves_out_more_classes_in_fewer_than_one_dataset_in_a_thousand(
    units: list[int], outside: float
) -> None:
    draw, most = np.random.default_rng(0), most_by_chance(units, outside)
    unseen = (draw.random((20_000, len(units))) < outside ** np.array(units, float)).sum(axis=1)
    assert (unseen > most).mean() < 2e-3
    assert (unseen > most - 3).mean() > 1e-3 or most < 3
    assert most_by_chance([30] * 77, 0.3) == 0


# --- texts that were cut ------------------------------------------------------------------------------------


def cut(rows: list[Row], most: int, many: int) -> list[Row]:
    return [{**row, "text": row["text"][:most]} if n < many else row for n, row in enumerate(rows)]


def test_texts_cut_by_a_column_stop_the_run(tmp_path: Path) -> None:
    rows = cut(texts(300), 40, 300)
    with pytest.raises(UserError) as caught:
        run(tmp_path, rows, None, TEXT, Checks())
    said = str(caught.value)
    assert re.match(r"checks\.cut_texts: \d+ texts of the column 'text' end at 40 characters", said)
    assert told(run(tmp_path, rows))["cut_texts"][0] > 150


def test_few_cut_texts_are_told(tmp_path: Path) -> None:
    rows = [*texts(1000), *cut([{**row, "text": row["text"] * 4} for row in texts(40, 5)], 200, 40)]
    manifest = run(tmp_path, rows, None, TEXT, Checks())
    assert 20 <= told(manifest)["cut_texts"][0] <= 40


# What has one length by right.
BY_RIGHT: dict[str, Callable[[int], str]] = {
    "codes": lambda n: f"ISO {1000 + n} part {n % 7}",
    "a form": lambda n: f"order {1000 + n} of shop {10 + n % 80} is late",
    "sequences": lambda n: "".join(np.random.default_rng(n).choice([*"ACGT"], 60)),
    "questions": lambda n: str(texts(1, n)[0]["text"]),
}


@pytest.mark.parametrize("kind", BY_RIGHT)
def test_texts_of_one_length_by_right_are_not_cut(kind: str, tmp_path: Path) -> None:
    rows = [{"text": BY_RIGHT[kind](n), "labels": [CLASSES[n % 4]]} for n in range(400)]
    assert "cut_texts" not in told(run(tmp_path, rows))


# --- a code for each class ----------------------------------------------------------------------------------


def test_a_code_for_each_class_in_place_of_the_text_is_a_leak(tmp_path: Path) -> None:
    rows = [{"text": f"queue {n % 4:02} {n:05}", "labels": [CLASSES[n % 4]]} for n in range(600)]
    checks = Checks(near_duplicates="off")
    with pytest.raises(UserError, match=r"^checks\.leaks: 1 thing .* in each class's text \('00', "):
        run(tmp_path, rows, None, TEXT, checks)


def test_a_word_that_one_class_always_has_is_none(tmp_path: Path) -> None:
    rows = [
        {**row, "text": f"{row['text']} pin" if n % 4 == 0 else row["text"]}
        for n, row in enumerate(texts(600))
    ]
    assert "leaks" not in told(run(tmp_path, rows, None, TEXT, Checks()))


# --- all that stops is said at once -------------------------------------------------------------------------


def test_a_person_reads_everything_that_stops_the_run_at_once(tmp_path: Path) -> None:
    rows = [{"text": f"queue {n % 4:02} {n:05}", "labels": [CLASSES[n % 4]]} for n in range(600)]
    rows = [*rows, *({"text": " ", "labels": ["cards"]} for _ in range(60))]
    with pytest.raises(UserError) as caught:
        run(tmp_path, rows, rows[:30], TEXT, Checks(near_duplicates="off"))
    said = str(caught.value)
    assert said.startswith("checks.empty: 60 rows") and "\n" not in said
    assert re.findall(r"besides, checks\.(\w+): ", said) == ["test_overlap", "leaks"]
    assert not (tmp_path / "out").exists()


def test_what_stops_is_said_where_too_few_rows_are_left(tmp_path: Path) -> None:
    rows = texts(30)
    with pytest.raises(UserError, match=r"^checks\.test_overlap: 30 training rows"):
        run(tmp_path, rows, rows, TEXT, Checks())
    with pytest.raises(UserError, match=r"^no row of 60 is left to train on"):
        run(tmp_path, rows, rows, TEXT, WARN)
