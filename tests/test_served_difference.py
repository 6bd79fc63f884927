"""By how much a CPU's answers differ from those that evaluate stored: measured, and told of a GPU's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retrainer.evaluation.summary import closing_table
from retrainer.registry.serving_check import _alike, _distance
from tests.reports import report_of, told_of

DIFFERENCES = {
    "a number": (0.5, 0.5 + 2e-5, 2e-5),
    "a large number": (2000.0, 2000.1, 5e-5),
    "probabilities": ({"a": 0.25, "b": 0.75}, {"a": 0.25, "b": 0.75003}, 3e-5),
    "boxes": ([{"score": 0.9, "box": [1.0, 2.0]}], [{"score": 0.9, "box": [1.0, 2.00008]}], 4e-5),
    "words": ("good", "good", 0.0),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_largest_difference_of_numbers(name: str) -> None:
    stored, served, expected = DIFFERENCES[name]
    assert _distance(served, stored) == pytest.approx(expected, rel=1e-3)
    assert _alike(served, stored, None)


def test_what_differs_by_more_is_not_alike() -> None:
    assert not _alike({"a": 0.5, "b": 0.5002}, {"a": 0.5, "b": 0.5}, None)


@pytest.mark.parametrize(("device", "told"), [("cuda", True), ("cpu", False)])
def test_the_closing_table_tells_it_of_a_gpu(device: str, told: bool) -> None:
    registration: dict[str, Any] = {
        "name": "net",
        "version": "1",
        "alias": "champion",
        "served_difference": "3.1e-07",
        "train_run_id": "a" * 32,
        "evaluation_run_id": "b" * 32,
    }
    report = report_of(told_of(("no", "yes"))) | {"device": device}
    table = " ".join(closing_table(report, registration, Path("report.html")).split())
    assert ("served a CPU answers as cuda did, but for 3e-07 in a number at most" in table) is told
