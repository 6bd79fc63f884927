"""The benchmark's list of careless months: every mistake changes the month, and nothing is listed twice."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.trust._real_rows import DATA
from benchmarks.trust.careless import exports
from benchmarks.trust.careless.clean import CLEAN, clean_months
from benchmarks.trust.careless.files import write
from benchmarks.trust.careless.judged import alarm
from benchmarks.trust.careless.mistakes import EVERY, MISTAKES, Mistake
from benchmarks.trust.careless.ours import Outcome
from benchmarks.trust.careless.peers.common import Company, lines
from benchmarks.trust.careless.rows import SOUND, TESTED_SPEAKER, TEXT, Case, Month, Row, World
from benchmarks.trust.careless.tables import WARNING
from retrainer.formats.audio import encode_wav

CLASSES = ("one", "two", "three")


def content(kind: str, number: int) -> str | bytes:
    draw = np.random.default_rng(number)
    if kind == TEXT:
        return f"it's question number {number} about a card"
    if kind == SOUND:
        return encode_wav(draw.normal(0, 0.1, 400), 8000)
    stream = io.BytesIO()
    Image.fromarray(draw.integers(0, 255, (20, 20, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def small_world(kind: str) -> World:
    def rows(start: int, count: int, group: str) -> tuple[Row, ...]:
        numbers = range(start, start + count)
        return tuple(Row(content(kind, n), CLASSES[n % 3], str(n), group) for n in numbers)

    made = World(kind, rows(0, 30, "george"), rows(30, 12, "george"), rows(42, 12, TESTED_SPEAKER), ())
    made.later = tuple(Row(content(kind, n), "later", str(n), "george") for n in range(60, 70))
    made.predicted = lambda given: (["one"] * len(given), np.linspace(0, 1, len(given)))
    made.trained = lambda _: Path("model")
    return made


WORLDS = {kind: small_world(kind) for kind in EVERY}
MONTHS = [(kind, mistake) for mistake in MISTAKES for kind in mistake.on]


def case(kind: str) -> Case:
    draw = np.random.default_rng(0)
    return Case(WORLDS[kind].this_month(draw), WORLDS[kind], draw)


def test_there_are_more_than_forty_months_and_no_name_twice() -> None:
    assert len(MONTHS) >= 40 and len(MISTAKES) >= 20 and len({one.name for one in MISTAKES}) == len(MISTAKES)
    assert sum(len(clean_months(kind)) for kind in EVERY) >= 40
    assert all(one.plant.__doc__ for one in MISTAKES)
    assert all(one.says or one.expected == "harmless" for one in MISTAKES)


@pytest.mark.parametrize(("kind", "mistake"), MONTHS, ids=lambda one: getattr(one, "name", one))
def test_a_mistake_changes_what_a_pipeline_reads(kind: str, mistake: Mistake, tmp_path: Path) -> None:
    if mistake.name.startswith("another language") and not (DATA / "multi30k").is_dir():
        pytest.skip("no ../shared/data/multi30k")
    given = case(kind)
    careless = mistake.plant(given)
    assert careless != given.month
    assert read(kind, careless, tmp_path / "a") != read(kind, given.month, tmp_path / "b")


def read(kind: str, month: Month, folder: Path) -> object:
    """Every file, with the settings and the seeds."""
    write(kind, month, folder)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(files) == (2 if kind == TEXT else len(month.train) + len(month.test)), (
        "a file was written over"
    )
    return files, month.settings, month.seeds


@pytest.mark.parametrize("kind", EVERY)
def test_a_clean_month_keeps_the_classes(kind: str) -> None:
    for name, _, change in clean_months(kind):
        month = change(case(kind))
        assert {row.label for row in month.train} == set(CLASSES), name


def test_other_pipelines_get_the_same_months(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    careless = [
        one for one in MISTAKES if one.name in ("every row three times", "learning rate × 100", "0 epochs")
    ]
    monkeypatch.setattr(exports, "MISTAKES", careless)
    exports.export(WORLDS[TEXT], tmp_path)
    about = json.loads((tmp_path / "months.json").read_text())
    assert [one["expected"] for one in about] == ["last", *["clean"] * len(CLEAN), "hold", "hold", "stop"]
    assert [one["training"] for one in about[-3:]] == [{}, {"rate": 100}, {"epochs": 0}]
    lines = [(tmp_path / one["folder"] / "train.csv").read_text().splitlines() for one in about]
    assert len(lines[0]) == 31 and len(lines[-3]) == 3 * (len(lines[1]) - 1) + 1


class FirstLabel:
    """Answers with the first label of the file that it was trained on."""

    name, packages, tunable = "first label", ("pytest",), True

    def fit(self, month: Path, _: dict[str, object], __: Path) -> str:
        rows = (month / "train.csv").read_text().splitlines()[1:]
        return rows[0].split(",")[1]

    def accuracy(self, model: str, month: Path) -> float:
        tested = [line.split(",")[1] for line in (month / "test.csv").read_text().splitlines()[1:]]
        return tested.count(model) / len(tested)


@pytest.mark.parametrize(
    ("train", "decision"),
    [("one", "promoted"), ("two", "promoted"), ("four", "not promoted"), ("", "stopped")],
)
def test_another_pipeline_promotes_what_is_as_good(train: str, decision: str, tmp_path: Path) -> None:
    for folder, label in (("00", "one"), ("01", train)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.csv").write_text(f"text,label\na,{label}\n" if label else "text,label\n")
        (tmp_path / folder / "test.csv").write_text("text,label\na,one\nb,two\n")
    company = Company(FirstLabel(), tmp_path, tmp_path)
    company.first()
    became = company.month({"folder": "01", "training": {}, "expected": "hold"})
    assert became["decision"] == decision
    assert ("error" in became) == (decision == "stopped")


def test_only_new_lines_of_another_pipeline_are_its_warnings() -> None:
    printed = lines("Epoch 1: loss 0.25\rWarning: 12 labels of 340 are missing\n 31%|███   | 12 it/s\n")
    assert list(printed.values()) == ["Epoch 1: loss 0.25", "Warning: 12 labels of 340 are missing"]
    assert printed.keys() >= lines("Epoch 7: loss 0.0125\nWarning: 3 labels of 9 are missing").keys()
    assert WARNING.search("3 labels of 9 are missing") and not WARNING.search("Epoch 7: loss 0.0125")


FELL, HARDLY = (1000, 0.2, 0.45), (1000, 0.4, 0.45)


@pytest.mark.parametrize(
    ("fell", "alarms"),
    [
        ({}, ["held"]),
        ({"dog": FELL}, []),
        ({"dog": HARDLY}, ["held"]),
        ({"dog": FELL, "cat": HARDLY}, ["held"]),
    ],
)
def test_a_clean_month_may_be_held_where_each_class_truly_fell(
    fell: dict[str, tuple[int, float, float]], alarms: list[str]
) -> None:
    last = Outcome("promoted", "", "", "", {"duplicates": 3}, 1.0)
    held = Outcome("held", "evaluate", "", "", {"duplicates": 9}, 1.0, fell=fell)
    assert alarm(held, last, {}) == alarms


def test_what_a_check_is_right_to_find_is_no_alarm() -> None:
    last = Outcome("promoted", "", "", "", {}, 1.0)
    month = Outcome("not promoted", "", "", "", {"near_duplicates": 2, "label_noise": 9}, 1.0)
    assert alarm(month, last, {"near_duplicates": 2}) == ["label_noise"]
    assert alarm(month, last, {"near_duplicates": 1}) == ["label_noise", "near_duplicates"]
