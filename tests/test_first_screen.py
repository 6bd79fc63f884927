"""The report's first screen in words, what differs from the champion, and axes of shares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retrainer.evaluation.answers import answers
from retrainer.evaluation.report import render
from retrainer.evaluation.since import settings_of, since_champion
from retrainer.evaluation.told import told
from retrainer.gate.data_figures import DataFigures, Months
from retrainer.gate.evidence import Champion
from retrainer.pages.charts import Axes, line_chart, share_ends
from retrainer.tasks._class_details import details
from retrainer.uncalibrated import FEWEST_ROWS, why_none
from tests.html_page import Page
from tests.reports import HISTORY, judged_of, opposite, report_of, told_of

LABELS = ("cat", "dog", "emu")


def said(report: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Question → the answer's head, and its sentences."""
    return {one.question: (one.head, "; ".join(one.sentences)) for one in answers(report)}


def test_a_first_model_has_nothing_to_be_better_than() -> None:
    found = said(report_of(told_of(LABELS)))
    assert "a simple method does as well: TF-IDF" in found["Is it better?"][1]
    assert found["What changed?"][1].startswith("there was no champion before; this model: mlp")
    assert found["What to do?"][0] == "Consider the simple method."


def test_a_better_model_is_better_by_points_and_rows() -> None:
    told = told_of(LABELS, rows=300)
    report = report_of(told, champion=opposite(told))
    found, champion = said(report), report["champion"]
    assert found["Is it better?"][0] == "Yes."
    head, sentences = found["By how much?"]
    assert head == f"{100 * champion['difference']:.1f} points better."
    assert f"{champion['better']:,} rows only the new model has right" in sentences
    assert found["Is it safe to use?"][0] == "As far as tested."
    assert "`make rollback` takes it back" in found["What to do?"][1]


def test_a_worse_model_leaves_the_champion_and_says_what_might_help() -> None:
    told = told_of(LABELS, rows=300)
    weak, _ = told_of(LABELS, rows=300, skill=0.0)
    report = report_of((weak, told[1]), champion=told[0], max_drop=0, beat_trivial=False)
    found = said(report)
    assert found["Is it better?"][0] == "No." and found["By how much?"][0].endswith("worse.")
    assert "by more than luck explains" in found["Is it better?"][1]
    assert found["What to do?"][0] == "Keep the champion." and "make curve" in found["What to do?"][1]


def test_a_rule_that_fails_is_the_answer_to_whether_it_is_safe() -> None:
    report = report_of(told_of(LABELS, rows=300), min_value=0.99)
    head, sentences = said(report)["Is it safe to use?"]
    assert head == "No." and "gate.min_value = 0.99" in sentences
    head, sentences = said(report)["What to do?"]
    assert head == "Do not use it yet." and "; ".join(told(report).to_pass) in sentences


def test_few_rows_and_equal_models_are_said() -> None:
    told = told_of(LABELS)
    found = said(report_of(told, champion=told[0]))
    assert "90 test rows say little about rows to come" in found["Is it safe to use?"][1]
    assert found["By how much?"][0] == "No difference."
    assert "there is no difference to the champion" in found["Is it better?"][1]


def test_what_came_from_outside_is_escaped() -> None:
    evil = "<b>`x`</b>"
    told = told_of(LABELS, rows=300)
    report = report_of(told, champion=opposite(told))
    report["since"] = {"settings": [f"training.x: {evil} → 2"], "rows": [1, 2], "same_data": False}
    page = render(report, HISTORY)
    assert evil not in page and "training.x" in Page(page).text and not Page(page).open


def settings_in(folder: Path, **sections: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(sections))
    return folder


def test_what_differs_from_the_champion_leaves_out_weights_that_were_not_used(tmp_path: Path) -> None:
    scratch = {"strategy": "scratch", "epochs": 4}
    old = settings_in(tmp_path / "old", training=scratch, backbone={"weights": "package:a", "width": 8})
    new = settings_in(tmp_path / "new", training={**scratch, "epochs": 9}, backbone={"weights": "package:b"})
    assert settings_of(old)["backbone"] == {"width": 8}
    champion, settings = Champion("3", "c" * 64, old), settings_of(new)
    figures = DataFigures(rows=900, test_rows=90, independent_rows=0)
    assert since_champion(champion, settings, Months(figures, None, "d")) == {
        "settings": ["training.epochs: 4 → 9"],
        "rows": None,
        "same_data": False,
    }
    (old / "settings.json").unlink()
    then = since_champion(champion, settings, Months(figures, figures, "d", same=True))
    assert then == {"settings": None, "rows": [900, 900], "same_data": True}


@pytest.mark.parametrize(
    ("training", "rows", "why"),
    [
        ({"calibrate": False}, 500, "training.calibrate is false"),
        ({}, 0, "there are none (split.validation)"),
        ({}, FEWEST_ROWS - 1, f"at least {FEWEST_ROWS} are needed"),
        ({"command": "python mine.py"}, 500, "training.command gave none"),
        ({}, 500, "no mistake, or nothing but mistakes"),
    ],
)
def test_a_calibration_that_was_not_fitted_says_why(training: dict[str, Any], rows: int, why: str) -> None:
    assert why in why_none(training, rows)


def test_the_report_repeats_why() -> None:
    judged = judged_of(told_of(LABELS), temperature=1.0)
    noted = details(type(judged)(**vars(judged) | {"uncalibrated": "for this reason"}))["notes"][0]
    assert noted.endswith("(no temperature was fitted: for this reason).")


@pytest.mark.parametrize("values", [[1.0], [0.93, 0.97], [0.2, 0.999], [0.0]])
def test_axes_of_shares_end_at_one(values: list[float]) -> None:
    low, high = share_ends(values)
    assert high == 1 and 0 <= low <= min(values)
    points = {"accuracy": [(float(n), value) for n, value in enumerate(values)]}
    drawn = Page(line_chart(points, "accuracy", None, Axes(y_range=share_ends(values)))).said
    assert "1" in drawn and not any(text.startswith("1.") for text in drawn)
    assert share_ends([0.12, 0.3], higher_is_better=False) == (0.0, 0.3)
    assert share_ends([1.4], higher_is_better=True)[1] == 1.4
