"""Detection: each class by its own average precision, over all images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrainer.formats.columns import BOX
from retrainer.gate.measured import Measured
from retrainer.metrics import _detection, average_precision_50
from retrainer.tasks._class_figures import average_precisions
from retrainer.tasks._found_boxes import FOUND, with_most_boxes
from retrainer.tasks._protocol import ClassFigure


def box(label: str, left: float, **more: float) -> dict[str, Any]:
    return {"label": label, "left": left, "top": 0.0, "right": left + 10, "bottom": 10.0, **more}


def images(rows: int, lost: str = "", seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """Predictions and truth: two classes, noisy scores, false boxes; of class `lost` nothing is found."""
    draw = np.random.default_rng(seed)
    true = [[box(name, 20.0 * n) for n, name in enumerate("ab") if draw.random() < 0.7] for _ in range(rows)]
    seen = [
        [box(one["label"], one["left"] + draw.normal(), score=draw.random()) for one in row] for row in true
    ]
    found = [
        [one for one in row if one["label"] != lost]
        + [box("ab"[int(draw.random() < 0.5)], 60.0, score=draw.random() / 2)]
        for row in seen
    ]
    tables = (pa.array(found, pa.list_(FOUND)), pa.array(true, pa.list_(BOX)))
    return pa.table({"boxes": tables[0]}), pa.table({"boxes": tables[1]})


def value(one: ClassFigure) -> float:
    return Measured(one.metric, one.statistics).value


def test_each_class_has_the_average_precision_that_the_report_shows() -> None:
    found, true = images(30)
    figures = average_precisions(found, true)
    statistics = average_precision_50.statistics(found, true)
    expected = _detection.class_average_precisions(statistics, np.ones((1, 30)), 1)[0, :, 0]
    for number, name in enumerate("ab"):
        one = figures[name]
        assert value(one) == pytest.approx(expected[number], abs=1e-12)
        assert one.title == "average precision (IoU 0.50)"
        has = [any(box["label"] == name for box in row) for row in true["boxes"].to_pylist()]
        assert one.having.tolist() == has and one.rows.tolist() == list(range(30))


def test_a_class_that_is_found_no_more_has_none_beside_the_same_rows() -> None:
    (good, true), (blind, _) = images(40), images(40, lost="b")
    mine, its = (average_precisions(one, true) for one in with_most_boxes(blind, good))
    assert mine["b"].statistics.shape[1] < its["b"].statistics.shape[1]  # and both no wider than they need
    assert value(mine["a"]) == pytest.approx(value(its["a"]))
    assert value(mine["b"]) < 0.05 < 0.5 < value(its["b"])
