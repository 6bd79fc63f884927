"""The benchmark's list of careless months: every mistake changes the month, and nothing is listed twice."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.trust._real_rows import DATA
from benchmarks.trust.careless.__main__ import CLEAN_SEEDS
from benchmarks.trust.careless.clean import CLEAN
from benchmarks.trust.careless.mistakes import EVERY, MISTAKES, Mistake
from benchmarks.trust.careless.rows import SOUND, TESTED_SPEAKER, TEXT, Case, Month, Row, World, write
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
    assert len(CLEAN) * sum(CLEAN_SEEDS.values()) >= 40
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
    for change in CLEAN.values():
        month = change(case(kind))
        assert {row.label for row in month.train} == set(CLASSES), change.__name__
