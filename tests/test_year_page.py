"""The year's page, and how its months are dealt: hostile words come out inert, expectations are kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.year.attack import move_classes
from benchmarks.year.events import months, so_far
from benchmarks.year.outcomes import CHALLENGER, HELD, PROMOTED, STOPPED, Act, Figure, Outcome, _kind
from benchmarks.year.page import as_markdown, render
from benchmarks.year.project import Said
from benchmarks.year.rows import (
    NEW_CLASS,
    Row,
    arrivals,
    mislabelled,
    read_banking77,
    read_rows,
    typed_on_a_phone,
    with_its_queue,
    write_rows,
)
from benchmarks.year.run import missed
from benchmarks.year.timeline import champions
from retrainer.errors import DataError
from tests.html_page import Page
from tests.made_years import act, month, year

EVIL = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style></svg><iframe>", "a & b'")


def test_hostile_words_come_out_inert() -> None:
    one = act(CHALLENGER, "1", reason=EVIL[0], data=EVIL[1], decision=EVIL[2], metric=EVIL[3], page=EVIL[1])
    made = year(month(EVIL[0], "1", one, title=EVIL[1], came=EVIL[2]), history=EVIL[0])
    made["machine"]["cpu"] = EVIL[2]
    page = Page(render(made))
    assert not {"script", "iframe", "object", "embed", "link", "form", "base", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not page.open
    for evil in EVIL[:3]:
        assert evil in page.text
    assert "<script>" not in as_markdown(made)


def test_the_page_needs_nothing_from_outside() -> None:
    content = render(year(month("May", "1", act(PROMOTED, "1"))))
    assert "http" not in content.replace("http-equiv", "") and "url(" not in content
    assert "default-src 'none'" in content


def test_a_year_without_any_model_has_a_page() -> None:
    assert "stopped" in Page(render(year(month("May", "", act(STOPPED))))).text


def test_what_was_not_expected_is_said_and_named() -> None:
    made = year(month("May", "1", act(PROMOTED, "1", as_expected=False, expected=HELD)), month("June", "1"))
    assert missed(made) == ["May, make retrain: held; it was promoted, so it is"]
    assert "expected: held" in Page(render(made)).text
    assert "0 of 1 outcomes" in Page(render(made)).text


def test_the_line_follows_the_champion() -> None:
    """A challenger's figure is not the champion's; where nothing was judged the last one is carried on."""
    before = asdict(Figure(0.5, 0.4, 0.6, 100))
    points = champions(
        [
            month("January", "", act(STOPPED)),
            month("February", "1", act(PROMOTED, "1")),
            month("March", "1", act(CHALLENGER, "2", champion=before)),
            month("April", "1", act(STOPPED)),
            month("May", "3", act(HELD, "3", champion=before), act("promoted by a person", "3")),
        ]
    )
    assert points[0] is None
    assert [point and (point.value, point.carried) for point in points[1:]] == [
        (0.8, False),
        (0.5, False),
        (0.5, True),
        (0.8, False),
    ]


def test_an_outcome_is_as_expected_by_its_kind_and_its_words() -> None:
    expected = Act("make retrain", lambda _: Outcome("", "", 0), (HELD,), "class 'x' appears; accept it")
    printed = "verdict     challenger: class 'x' appears;\n            accept it by"
    assert expected.as_expected(Outcome(HELD, "", 1.0, printed))
    assert not expected.as_expected(Outcome(CHALLENGER, "", 1.0, printed))
    assert not expected.as_expected(Outcome(HELD, "", 1.0, "verdict     challenger: not better"))


def test_the_reason_of_a_stop_is_the_step_s_own_line() -> None:
    printed = (
        "── preprocess\npreprocess: checks.leaks: 9 texts\nstopped at preprocess (its reason stands above)\n"
    )
    assert Said(1, printed, 1.0).reason == "preprocess: checks.leaks: 9 texts"
    assert Said(1, "", 1.0).reason == "it said nothing"
    assert Said(0, printed, 1.0).reason == ""


def test_a_model_is_held_by_another_rule_than_the_comparison() -> None:
    def kind(alias: str, *passed: bool) -> str:
        report = {"gate": {"rules": [{"passed": one} for one in passed]}}
        return _kind(report, {"alias": alias})

    assert kind("champion", True, True) == PROMOTED
    assert kind("challenger", False, True) == CHALLENGER
    assert kind("challenger", True, False) == kind("challenger", False, False) == HELD


# --- rows ---------------------------------------------------------------------------------------------------

ROWS = [Row(f"question {n} of {label}", label) for label in ("a", "b", NEW_CLASS) for n in range(60)]


def test_every_row_comes_once_and_the_new_class_from_june_on() -> None:
    dealt = arrivals(ROWS)
    assert Counter(row for arrived in dealt for row in arrived) == Counter(ROWS)
    assert dealt == arrivals(ROWS) and dealt != arrivals(ROWS, seed=1)
    counts = [Counter(row.label for row in arrived) for arrived in dealt]
    assert all(count["a"] == count["b"] == 5 for count in counts)
    assert [number for number, count in enumerate(counts) if count[NEW_CLASS]] == [5, 6, 7, 8]


def test_the_file_of_a_month_holds_the_months_before_it() -> None:
    dealt = arrivals(ROWS)
    files = [so_far(dealt, number) for number in range(12)]
    assert all(later[: len(file)] == file for file, later in pairwise(files))
    assert [row.label for row in files[-1]] == [row.label for arrived in dealt for row in arrived]
    kinds = {month.title: month.export(dealt, number) for number, month in enumerate(months())}
    assert Counter(kinds["the same month twice"]) == Counter([*dealt[0], *dealt[1], *dealt[1]])
    assert kinds["an empty month"] == []


def test_what_happens_to_rows() -> None:
    row = Row("Why was my Transfer declined?!", "declined")
    assert typed_on_a_phone(row).text.startswith("why was my t") and "?" not in typed_on_a_phone(row).text
    assert sorted(typed_on_a_phone(row).text) == sorted("why was my transfer declined")
    assert with_its_queue(row).text == "[declined] Why was my Transfer declined?!"
    wrong = mislabelled(ROWS, share=0.5)
    assert 40 < sum(a != b for a, b in zip(wrong, ROWS, strict=True)) < 90
    assert [one.text for one in wrong] == [one.text for one in ROWS]


def test_the_attack_turns_the_classes_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    head, body = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((2, 2), np.float32)
    save_file({"head.weight": head, "head.bias": head[:, 0].copy(), "body.layer": body}, path)
    move_classes(path)
    found = load_file(path)
    assert (found["head.weight"] == np.roll(head, 1, axis=0)).all()
    assert (found["body.layer"] == body).all() and (found["head.bias"] == head[:, 0]).all()


def test_the_cost_stands_beside_the_seconds_where_it_is_known() -> None:
    one = act(PROMOTED, "1", cost={"kwh": 0.00123, "money": 0.0004, "currency": "EUR"})
    text = Page(render(year(month("May", "1", one)))).text
    assert "12 s, 0.0012 kWh, 0.0004 EUR" in text


def test_the_data_are_named_where_they_are_missing_or_others(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing is downloaded unasked; fetch train\.csv .* DATA=folder$"):
        read_banking77(tmp_path, "train.csv")
    write_rows(tmp_path / "train.csv", [Row('a "quoted"\nline', "a, b")])
    assert read_rows(tmp_path / "train.csv") == [Row('a "quoted"\nline', "a, b")]
    with pytest.raises(DataError, match=r"is not Banking77's train\.csv: its sha256"):
        read_banking77(tmp_path, "train.csv")


def test_the_data_beside_the_project_are_banking77(shared_data: Path) -> None:
    counts = [len(read_banking77(shared_data / "banking77", name)) for name in ("train.csv", "test.csv")]
    assert counts == [10_003, 3_080]
