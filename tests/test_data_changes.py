"""Month against month: what a careless month changes is found and held; what chance changes is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrainer.errors import UserError
from retrainer.evaluation.data_figures import data_figures, months_of
from retrainer.formats.dataset import Dataset
from retrainer.gate.data_changes import changes, data_changes
from retrainer.gate.data_figures import DataFigures, Length, Months, figures_from
from retrainer.gate.evidence import Champion
from retrainer.settings import Gate
from tests.raw_rows import TEXT, WARN, Row, run

CLASSES = tuple(f"class {n}" for n in range(8))
SHARES = np.linspace(1, 3, len(CLASSES)) / np.linspace(1, 3, len(CLASSES)).sum()
ROWS = 600
Change = Callable[[list[Row]], list[Row]]


def month(seed: int, rows: int = ROWS, shares: np.ndarray = SHARES) -> list[Row]:
    draw = np.random.default_rng(seed)
    return [
        {
            "text": " ".join(f"w{word}" for word in draw.integers(0, 10_000, draw.integers(6, 15))),
            "labels": [CLASSES[draw.choice(len(CLASSES), p=shares)]],
        }
        for _ in range(rows)
    ]


def figures(folder: Path, rows: list[Row]) -> DataFigures:
    run(folder, rows, None, TEXT, WARN)
    return data_figures(Dataset(folder / "out"))


@pytest.fixture(scope="module")
def then(tmp_path_factory: pytest.TempPathFactory) -> DataFigures:
    return figures(tmp_path_factory.mktemp("then"), month(0))


def relabelled(rows: list[Row]) -> list[Row]:
    return [
        {**row, "labels": ["new"] if row["labels"] == ["class 7"] and n % 2 else row["labels"]}
        for n, row in enumerate(rows)
    ]


PLANTED: dict[str, tuple[Change, str]] = {
    "nearly empty": (lambda rows: rows[:30], "rows 600 → 30 (gate.changes.fewer_rows = 0.2)"),
    "half of it": (lambda rows: rows[:300], "rows 600 → 300"),
    "a smaller test": (lambda rows: rows[:300], "test rows "),
    "doubled": (lambda rows: [*rows, *rows], "rows that repeat another 0.0% → 50.0%"),
    "more than three times as much": (
        lambda _: month(7, 2000),
        "rows 600 → 2,000 (gate.changes.more_rows = 2)",
    ),
    "a class is missing": (
        lambda rows: [row for row in rows if row["labels"] != ["class 3"]],
        "class vanished: 'class 3' (",
    ),
    "a class is new": (relabelled, "class appeared: 'new' ("),
    "shares permuted": (lambda _: month(8, shares=SHARES[::-1]), "shares of labels moved by 0."),
    "texts cut": (
        lambda rows: [{**row, "text": row["text"][: len(row["text"]) // 2]} for row in rows],
        "characters in the median ",
    ),
    "labels empty": (
        lambda rows: [{**row, "labels": row["labels"] if n % 2 else None} for n, row in enumerate(rows)],
        "rows that lack something 0.0% → 50.0%",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_change_is_named_with_its_setting(name: str, then: DataFigures, tmp_path: Path) -> None:
    change, said = PLANTED[name]
    found = list(changes(Gate(), then, figures(tmp_path, change(month(1)))))
    assert any(one.startswith(said) for one in found), found
    assert all("(gate.changes." in one for one in found)


def test_half_of_the_rows_gone_is_told_beside_a_large_test_set_of_ones_own() -> None:
    then, now = DataFigures(1450, 450, 1000), DataFigures(1125, 450, 675)
    (change,) = changes(Gate.parse({}, "gate"), then, now)
    assert change == "rows 1,450 → 1,125 (gate.changes.fewer_rows = 0.2)"
    (change,) = changes(Gate(), DataFigures(1215, 405, 810), DataFigures(990, 405, 585))
    assert change == "training and validation rows 810 → 585 (gate.changes.fewer_rows = 0.2)"
    assert not list(changes(Gate(), then, DataFigures(1300, 450, 850)))


def test_groups_that_are_no_longer_given_are_told(tmp_path: Path) -> None:
    rows = [{**row, "group": f"customer {n % 90}"} for n, row in enumerate(month(5))]
    some = [{**row, "group": None if n % 25 == 0 else row["group"]} for n, row in enumerate(rows)]
    grouped, nearly = figures(tmp_path / "a", rows), figures(tmp_path / "b", some)
    without = figures(tmp_path / "c", month(5))
    assert (grouped.grouped, nearly.grouped, without.grouped) == (1, 0.96, 0)
    (change,) = changes(Gate(), grouped, without)
    assert change == "rows without a group (source.group) 0.0% → 100.0% (gate.changes.groups = 0.05)"
    assert not list(changes(Gate(), grouped, nearly)) and not list(changes(Gate(), without, grouped))
    older = figures_from({name: value for name, value in grouped.plain().items() if name != "grouped"})
    assert older is not None and not list(changes(Gate(), older, without))


def test_clean_months_are_not_held(then: DataFigures, tmp_path: Path) -> None:
    held = [list(changes(Gate(), then, figures(tmp_path, month(seed)))) for seed in range(20, 23)]
    assert held == [[]] * 3


@pytest.mark.parametrize("independent", [6, 30, 200, 5000])
@pytest.mark.parametrize("classes", [2, 10, 77, 1000])
def test_chance_alone_moves_no_shares(independent: int, classes: int) -> None:
    """Rows of few groups, many classes: whatever chance does, of 200 months none is held."""
    draw = np.random.default_rng(0)
    shares = draw.dirichlet(np.full(classes, 3.0))
    held = 0
    for _ in range(200):
        one, other = (draw.multinomial(independent, shares) for _ in range(2))
        # Each independent row stands for ten that are like it.
        months = [
            DataFigures(
                10 * independent, 0, independent, {str(n): 10 * int(c) for n, c in enumerate(counts) if c}
            )
            for counts in (one, other)
        ]
        held += any("shares" in found for found in changes(Gate(), *months))
    assert held == 0


def test_a_rare_class_may_come_and_go() -> None:
    then = DataFigures(1000, 200, 1000, {"a": 500, "b": 491, "rare": 9})
    now = DataFigures(1000, 200, 1000, {"a": 500, "b": 500})
    assert not list(changes(Gate(), then, now)) and not list(changes(Gate(), now, then))


def test_every_limit_can_be_moved_and_switched_off(then: DataFigures) -> None:
    now = DataFigures(
        rows=50,
        test_rows=2,
        independent_rows=40,
        classes={"class 0": 45},
        duplicates=0.5,
        unusable=0.3,
        lengths={"characters": Length(1.0, 0.1, 40)},
        grouped=0.0,
    )
    then = replace(then, grouped=1.0)
    names = Gate().changes.plain()
    assert len(list(changes(Gate(), then, now))) >= len(names) - 1
    off = Gate.parse({"changes": dict.fromkeys(names, 0)}, "gate")
    assert list(changes(off, then, now)) == []


def test_data_that_a_person_has_accepted_are_not_held(then: DataFigures) -> None:
    now = DataFigures(50, 2, 50)
    months = Months(now, then, "ab12cd34" * 8)
    (rule,) = data_changes(Gate(), months)
    assert not rule.passed and rule.value >= 1 and rule.note.endswith('gate: {accepted_data: "ab12cd34ab12"}')
    (rule,) = data_changes(Gate(accepted_data="ab12cd34ab12"), months)
    assert rule.passed and "rows 600 → 50" in rule.note
    (rule,) = data_changes(Gate(accepted_data="ffffffff"), months)
    assert not rule.passed


def test_the_very_same_rows_are_no_change(then: DataFigures) -> None:
    (rule,) = data_changes(Gate(), Months(then, then, "a" * 64, same=True))
    assert rule.passed
    assert list(data_changes(Gate(), Months(then, None, "a" * 64))) == [], "an older champion has no figures"


@pytest.mark.parametrize("value", ["abc", "xyz12345", "A" * 12, "a" * 65])
def test_accepted_data_are_named_by_their_hash(value: str) -> None:
    with pytest.raises(UserError, match=r"^setting gate\.accepted_data"):
        Gate.parse({"accepted_data": value}, "gate")


@pytest.mark.parametrize("value", [-1, 1.5, "much"])
def test_a_limit_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"^setting gate\.changes\.label_shares"):
        Gate.parse({"changes": {"label_shares": value}}, "gate")
    with pytest.raises(UserError, match=r"^unknown setting gate\.changes\.rows"):
        Gate.parse({"changes": {"rows": 0.1}}, "gate")


def test_figures_survive_the_report_and_nothing_else_passes_for_them(then: DataFigures) -> None:
    assert figures_from(json.loads(json.dumps(then.plain()))) == then
    for other in (None, {}, [], "x", {**then.plain(), "classes": 3}, {**then.plain(), "rows": "many"}):
        assert figures_from(other) is None


def test_months_know_the_champions_rows_again(tmp_path: Path) -> None:
    data = run(tmp_path, month(3, 60), None, TEXT, WARN)["content_sha256"]
    champion = Champion("3", "c" * 64, Path("nowhere"), data)
    assert months_of(champion, Dataset(tmp_path / "out")).same
    assert not months_of(None, Dataset(tmp_path / "out")).same
