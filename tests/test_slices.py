"""The gate's metric by parts of the test rows: which there are, their values, and what is asked wrongly."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from retrainer import metrics
from retrainer.errors import UserError
from retrainer.evaluation.slices import MOST_VALUES, NOTHING, OTHERS, _rows, slice_figures, slice_rows
from retrainer.formats.dataset import IMAGE
from retrainer.gate.evidence import SliceFigure
from retrainer.gate.intervals import wilson
from retrainer.gate.measured import Measured, measure
from retrainer.settings import Checks, Evaluation, Gate, Task
from retrainer.tasks import image_classification, text_classification
from retrainer.tasks._protocol import Judged
from tests.predictions import answered
from tests.reports import Asked

TASKS = {"text": text_classification, "image": image_classification}
ASKED = {column: Asked(task.make(Task(), ("a", "b"))) for column, task in TASKS.items()}  # type: ignore[arg-type]


def accuracy(correct: list[bool]) -> Measured:
    return Measured(metrics.load("accuracy", "test"), np.array([[float(one), 1.0] for one in correct]))


def sliced(
    test: pa.Table,
    measured: Measured,
    names: list[str],
    floors: list[str] | None = None,
    confidence: float = 0.95,
) -> tuple[SliceFigure, ...]:
    """Rows of two classes in turn, where they have none."""
    if "labels" not in test.column_names:
        labels = [["ab"[row % 2]] for row in range(len(test))]
        test = test.append_column("labels", pa.array(labels, pa.list_(pa.string())))
    settings = Evaluation(slices=tuple(names), confidence=confidence, resamples=100)
    asked = ASKED["image" if "image" in test.column_names else "text"]
    gate = Gate(slice_floors=dict.fromkeys(floors or [], 0.5))
    return slice_figures(
        slice_rows(Judged(asked, test, test, test, settings, Checks()), gate), measured, settings
    )


def counted(test: pa.Table, measured: Measured, name: str) -> dict[str, tuple[int, float]]:
    return {one.name: (one.rows, one.value) for one in sliced(test, measured, [name])}


def test_the_length_of_a_text_and_its_pair_together() -> None:
    lengths = [0, 49, 50, 199, 200, 1000]
    test = pa.table({"text": ["x" * n for n in lengths]})
    right = accuracy([True, False, True, True, False, False])
    assert counted(test, right, "text_length") == {
        "long (from 200 characters)": (2, 0.0),
        "medium (50–200 characters)": (2, 1.0),
        "short (below 50 characters)": (2, 0.5),
    }
    pairs = test.append_column("text_pair", pa.array(["y" * 200] * 5 + [None], pa.string()))
    assert counted(pairs, right, "text_length") == {"long (from 200 characters)": (6, 0.5)}
    nothing = pa.table({"text": pa.array([None], pa.string())})
    assert counted(nothing, accuracy([True]), "text_length") == {"short (below 50 characters)": (1, 1.0)}


def grey(level: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 30), level, np.uint8)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def test_the_brightness_of_an_image() -> None:
    test = pa.table({"image": pa.array([grey(n) for n in (0, 84, 85, 169, 170, 255)], IMAGE)})
    assert counted(test, accuracy([True] * 3 + [False] * 3), "brightness") == {
        "bright (from 170 grey)": (2, 0.0),
        "dark (below 85 grey)": (2, 1.0),
        "medium (85–170 grey)": (2, 0.5),
    }


def test_class_month_group_and_any_column_of_the_metadata() -> None:
    metadata = [{"region": "north", "size": 3}, {"region": "south"}, {"region": "north"}, {}, None]
    test = pa.table(
        {
            "text": list("vwxyz"),
            "time": ["2026-03-01", "2026-03-31T10:00:00", "2026-04-01", "someday", None],
            "group": ["g1", "g1", None, "g2", "g2"],
            "metadata": [None if row is None else json.dumps(row) for row in metadata],
        }
    )
    right = accuracy([True, False, True, True, False])
    assert counted(test, right, "class") == {"a": (3, pytest.approx(2 / 3, abs=1e-6)), "b": (2, 0.5)}
    assert counted(test, right, "time") == {"2026-03": (2, 0.5), NOTHING: (2, 0.5), "2026-04": (1, 1.0)}
    assert counted(test, right, "group") == {"g1": (2, 0.5), "g2": (2, 0.5), NOTHING: (1, 1.0)}
    assert counted(test, right, "region") == {NOTHING: (2, 0.5), "north": (2, 1.0), "south": (1, 0.0)}
    assert counted(test, right, "size") == {NOTHING: (4, 0.5), "3": (1, 1.0)}


def test_a_row_of_several_labels_counts_for_each() -> None:
    test = pa.table({"text": ["x", "y"], "labels": [["a", "b"], ["b"]]})
    assert counted(test, accuracy([True, False]), "class") == {"b": (2, 0.5), "a": (1, 1.0)}


def test_any_metric_has_slices_from_its_sums() -> None:
    draw = np.random.default_rng(0)
    groups = ["few"] * 30 + ["many"] * 90
    tables = answered(draw.dirichlet([1, 1], 120), ("a", "b"), [["ab"[n % 2]] for n in range(120)])
    for name in ("macro_f1", "log_loss"):
        metric = metrics.load(name, "test")
        test = tables[1].append_column("group", pa.array(groups))
        many, few = sliced(test, measure(metric, name, *tables), ["group"])
        for one, start, stop in ((few, 0, 30), (many, 30, 120)):
            part = measure(metric, name, *(table.slice(start, stop - start) for table in tables))
            assert one.rows == stop - start and one.value == pytest.approx(part.value, abs=1e-6)
            assert one.low < one.value < one.high


def test_intervals_are_wilsons_and_the_largest_value_comes_first() -> None:
    test = pa.table({"text": ["x"] * 40, "group": ["few"] * 10 + ["many"] * 30})
    many, few = sliced(test, accuracy([True] * 37 + [False] * 3), ["group"], confidence=0.9)
    assert (many.by, many.name, many.rows) == ("group", "many", 30)
    expected = wilson(27, 30, 0.9)
    assert (many.value, many.low, many.high) == (expected["value"], expected["low"], expected["high"])
    assert (few.name, few.rows, few.value) == ("few", 10, 1.0)


def test_rare_values_are_summed_and_no_row_is_lost() -> None:
    groups = [f"g{n:03}" for n in range(70) for _ in range(2)] + ["largest"] * 5
    test = pa.table({"text": ["x"] * len(groups), "group": groups})
    figures = sliced(test, accuracy([True] * len(groups)), ["group"])
    assert len(figures) == MOST_VALUES + 1
    assert (figures[0].name, figures[0].rows) == ("largest", 5)
    assert (figures[-1].name, figures[-1].rows) == (OTHERS, 2 * 21)
    assert sum(one.rows for one in figures) == len(groups)


def test_a_row_of_several_rare_values_is_one_row() -> None:
    values = [[f"c{n:03}", f"c{n + 1:03}"] for n in range(0, 140, 2)]
    figures = slice_figures({"class": _rows(values)}, accuracy([True] * len(values)), Evaluation())
    rows = (len(values) * 2 - MOST_VALUES) // 2  # all classes are of one size: the last 90 of 140 are rare
    assert (figures[-1].name, figures[-1].rows) == (OTHERS, rows)


def test_a_slice_of_both_settings_is_measured_once() -> None:
    test = pa.table({"text": ["x", "y"]})
    figures = sliced(test, accuracy([True, True]), ["class"], ["class", "text_length"])
    assert [one.by for one in figures] == ["class", "class", "text_length"]


@pytest.mark.parametrize(
    ("names", "settings", "said"),
    [
        (
            ["text_lenght"],
            [],
            r"evaluation\.slices: .*'text_lenght'.*'text_length'.*they have class, text_length",
        ),
        ([], ["brightness"], r"gate\.slice_floors: the test rows have no slice 'brightness'"),
        (["region"], [], r"class, text_length, colour \(name further columns in source\.metadata\)"),
    ],
)
def test_an_unknown_slice_is_told_with_the_known_ones(
    names: list[str], settings: list[str], said: str
) -> None:
    test = pa.table({"text": ["x"], "metadata": ['{"colour": "red"}']})
    with pytest.raises(UserError, match=said):
        sliced(test, accuracy([True]), names, settings)
