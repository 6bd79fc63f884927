"""A short year by the same code as `make year`: a first model, the same month again, an attack."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.year.attack import swap_the_champion
from benchmarks.year.events import february_again, retrain, so_far
from benchmarks.year.outcomes import NOTHING_NEW, PROMOTED, STOPPED, Month
from benchmarks.year.page import render
from benchmarks.year.project import QUESTIONS, Project
from benchmarks.year.rows import LABEL, Row, arrivals
from benchmarks.year.run import missed, run_year
from tests.encoders import save_encoder
from tests.html_page import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CLASSES = "abc"


def recipe(encoder: Path) -> dict[str, Any]:
    return {
        "registry": {"name": "short-year", "sign": True},
        "source": {"path": QUESTIONS, "label": LABEL},
        "task": {"kind": "text_classification", "max_length": 16},
        "backbone": {"family": "transformers", "weights": str(encoder)},
        "training": {"strategy": "full", "epochs": 20, "learning_rate": 0.01, "backbone_learning_rate": 0.01},
        "compute": {"device": "cpu", "dtype": "float32", "threads": 1},
        "checks": {"near_duplicates": "off"},
        "evaluation": {"baseline": False, "resamples": 100},
        "retrain": {"policy": "drift", "growth": 0.05},
    }


def questions(rows: int = 3600) -> list[Row]:
    """Each class has two words that are commoner in it than in the others."""
    draw = random.Random(0)
    found = []
    for number in range(rows):
        label = number % len(CLASSES)
        marks = [label if draw.random() < 0.85 else draw.randrange(len(CLASSES)) for _ in range(3)]
        words = [draw.randrange(30) for _ in range(6)] + [30 + 2 * mark + draw.randrange(2) for mark in marks]
        found.append(Row(" ".join(f"w{word}" for word in words), CLASSES[label]))
    return found


def test_a_short_year_is_as_expected(tmp_path: Path) -> None:
    months = (
        Month("January", "the first model", "Rows.", so_far, (retrain(PROMOTED, says="the first version"),)),
        Month("February", "the same", "Rows.", february_again, (retrain(NOTHING_NEW, says="exactly these"),)),
        Month(
            "March",
            "an attack",
            "Rows.",
            so_far,
            (retrain(STOPPED, says="altered after it was signed"),),
            before=swap_the_champion,
        ),
    )
    dealt = arrivals(questions())
    dealt[1] = dealt[0][:0]
    project = Project(tmp_path / "project", recipe(save_encoder(tmp_path / "encoder", "bert")))
    year = run_year(project, months, dealt, tmp_path / "out", questions(60))
    assert not missed(year), [act["reason"] for month in year["months"] for act in month["acts"]]
    assert [month["champion"] for month in year["months"]] == ["1", "1", "1"]
    assert year["months"][0]["truth"] > 0.5
    assert "now: champion 1" in year["history"]
    page = Page(render(year))
    links = [value for name, value in page.attributes if name == "href"]
    assert links and all((tmp_path / "out" / link).is_file() for link in links)
