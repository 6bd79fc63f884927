"""Average precision is pycocotools' to the last digit, for any weights of the rows."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrainer.formats.columns import TYPES
from retrainer.formats.names import CORNERS
from retrainer.gate import intervals
from retrainer.gate.compare import compare
from retrainer.gate.intervals import figure
from retrainer.gate.measured import measure
from retrainer.gate.pair import Pair
from retrainer.metrics import _detection, average_precision, average_precision_50
from retrainer.settings import Evaluation
from retrainer.tasks._found_boxes import with_most_boxes
from tests.coco_reference import coco_figures

pytest.importorskip("pycocotools")

Boxes = list[dict[str, Any]]


def box(label: str, left: float, top: float, width: float, height: float, **more: float) -> dict[str, Any]:
    sides = (left, top, left + width, top + height)
    return {"label": label, **dict(zip(CORNERS, sides, strict=True)), **more}


def tables(found: list[Boxes], true: list[Boxes]) -> tuple[pa.Table, pa.Table]:
    fields = [
        ("label", pa.string()),
        ("score", pa.float64()),
        *((corner, pa.float64()) for corner in CORNERS),
    ]
    predictions = pa.table({"boxes": pa.array(found, pa.list_(pa.struct(fields)))})
    return predictions, pa.table({"boxes": pa.array(true, TYPES["boxes"])})


def random_images(
    seed: int, images: int, classes: str = "abc", ties: bool = False
) -> tuple[list[Boxes], list[Boxes]]:
    """True boxes, and guesses of which some are near one, some of another class and some anywhere."""
    draws = np.random.default_rng(seed)
    found: list[Boxes] = []
    true: list[Boxes] = []
    for _ in range(images):
        truths = [
            box(draws.choice(list(classes)), *draws.uniform(0, 80, 2), *draws.uniform(5, 40, 2))
            for _ in range(draws.integers(0, 7))
        ]
        guesses = []
        for truth in truths * 2:
            jitter = draws.normal(0, 3, 4)
            sides = [truth[corner] + move for corner, move in zip(CORNERS, jitter, strict=True)]
            label = truth["label"] if draws.random() < 0.8 else str(draws.choice(list(classes)))
            guess = box(label, sides[0], sides[1], max(1, sides[2] - sides[0]), max(1, sides[3] - sides[1]))
            guesses.append(guess | {"score": draws.random()})
        guesses += [
            box(draws.choice(list(classes)), *draws.uniform(0, 80, 2), 20, 20, score=draws.random() / 2)
            for _ in range(3)
        ]
        for guess in guesses:
            guess["score"] = round(guess["score"], 1 if ties else 15)
        found.append(guesses)
        true.append(truths)
    return found, true


def ours(found: list[Boxes], true: list[Boxes]) -> tuple[float, float]:
    both = tables(found, true)
    ones = np.ones(len(true))
    return tuple(  # type: ignore[return-value]
        float(metric.value_of_rows(metric.statistics(*both), ones))
        for metric in (average_precision, average_precision_50)
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_values_equal_those_of_pycocotools_to_the_last_digit(seed: int, ties: bool) -> None:
    found, true = random_images(seed, 40, ties=ties)
    precision, precision_50, curves = coco_figures(*tables(found, true))
    assert 0.1 < precision < precision_50 < 0.95
    assert ours(found, true) == (precision, precision_50)
    statistics = average_precision.statistics(*tables(found, true))
    classes = _detection.class_average_precisions(statistics, np.ones((1, 40)), 10)[0]
    assert np.array_equal(classes.T, np.ascontiguousarray(curves.transpose(0, 2, 1)).mean(-1))


def test_more_than_a_hundred_boxes_of_an_image_are_cut_off_as_there() -> None:
    draws = np.random.default_rng(0)
    true = [[box("a", *draws.uniform(0, 900, 2), 20, 20) for _ in range(150)]]
    found = [[one | {"score": draws.random()} for one in true[0]]]
    precision, precision_50, _ = coco_figures(*tables(found, true))
    assert ours(found, true) == (precision, precision_50)
    assert precision == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize(
    ("found", "true"),
    [
        ([[box("a", 0, 0, 9, 9, score=0.5)], []], [[box("b", 0, 0, 9, 9)], []]),  # another class
        ([[], []], [[box("a", 0, 0, 9, 9)], [box("b", 0, 0, 9, 9)]]),  # no guess at all
        ([[box("a", 0, 0, 9, 9, score=0.5)] * 3, []], [[box("a", 0, 0, 9, 9)], []]),  # found three times
        ([[box("a", 0, 0, 9, 9, score=0.0)], []], [[box("a", 0, 0, 9, 9)] * 2, []]),  # two in one place
        ([[box("a", 0, 0, 8, 8, score=0.5)], []], [[box("a", 0, 0, 8, 16)], []]),  # a share of 0.5 exactly
    ],
)
def test_edge_cases_are_judged_as_there(found: list[Boxes], true: list[Boxes]) -> None:
    precision, precision_50, _ = coco_figures(*tables(found, true))
    assert ours(found, true) == (precision, precision_50)


def test_without_a_true_box_the_value_is_0() -> None:
    assert ours([[box("a", 0, 0, 9, 9, score=0.5)]], [[]]) == (0.0, 0.0)
    assert ours([], []) == (0.0, 0.0)


@pytest.mark.parametrize("metric", [average_precision, average_precision_50])
def test_weighted_rows_are_the_same_rows_again_and_again(metric: Any) -> None:
    """A bootstrap's sample, and a slice, have the value that pycocotools gives for just those images."""
    found, true = random_images(5, 30)
    statistics = metric.statistics(*tables(found, true))
    draws = np.random.default_rng(1)
    weights = np.stack([np.bincount(draws.integers(0, 30, 30), minlength=30) for _ in range(5)])
    weights[0] = np.arange(30) < 12
    values = metric.value_of_rows(statistics, weights)
    assert values.shape == (5,)
    for value, counts in zip(values, weights, strict=True):
        rows = np.repeat(np.arange(30), counts)
        expected = coco_figures(*tables([found[row] for row in rows], [true[row] for row in rows]))
        assert value == expected[metric is average_precision_50]


def test_rows_that_two_models_answer_alike_have_equal_statistics() -> None:
    found, true = random_images(6, 10)
    other = [boxes if row % 2 else boxes[:-1] for row, boxes in enumerate(found)]
    both = with_most_boxes(*(tables(some, true)[0] for some in (found, other)))
    first, second = (average_precision_50.statistics(one, tables(found, true)[1]) for one in both)
    assert ((first == second).all(1) == (np.arange(10) % 2 == 1)).all()


def test_the_gate_judges_by_it_as_by_any_metric() -> None:
    """Value, interval, slices and the paired test; of many rows as of few."""
    found, true = random_images(7, 60)
    worse = [[box for box in boxes if box["score"] < 0.7] for boxes in found]
    both = with_most_boxes(*(tables(some, true)[0] for some in (found, worse)))
    mine, its = (measure(average_precision_50, "ap", one, tables(found, true)[1]) for one in both)
    assert mine.value == coco_figures(*tables(found, true))[1]
    evaluation = Evaluation.parse({"resamples": 300}, "evaluation")
    interval = figure(mine, evaluation)
    assert interval["low"] < interval["value"] < interval["high"] and interval["n"] == 60
    chosen = np.arange(60) < 30
    half = coco_figures(*tables(found[:30], true[:30]))[1]
    assert mine.only(chosen).value == half
    better, other_way = compare(Pair(mine, its)), compare(Pair(its, mine))
    assert better.difference > 0.1 and better.p_value < 0.01 < 0.9 < other_way.p_value
    assert better.standard_error == pytest.approx((interval["high"] - interval["low"]) / 4, rel=0.6)


def test_swapped_answers_have_the_gains_of_tables_made_so() -> None:
    """Of four images all 16 assignments are drawn, each with the gain of tables made for it."""
    found, true = random_images(12, 4)
    other = [[box | {"score": box["score"] * 0.9} for box in boxes[1:]] for boxes in found]
    truth = tables(found, true)[1]

    def pair(swaps: tuple[bool, ...]) -> Pair:
        sides = [(b, a) if swap else (a, b) for a, b, swap in zip(found, other, swaps, strict=True)]
        both = with_most_boxes(*(tables([side[place] for side in sides], true)[0] for place in (0, 1)))
        return Pair(*(measure(average_precision_50, "ap", one, truth) for one in both), draws=400)

    expected = {round(pair(swaps).gain, 9) for swaps in itertools.product((False, True), repeat=4)}
    drawn = pair((False,) * 4).swapped_gains
    assert len(expected) > 8 and {round(float(gain), 9) for gain in drawn} == expected


def test_interval_of_many_rows_is_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    found, true = random_images(8, 20)
    mine = measure(average_precision_50, "ap", *tables(found, true))
    evaluation = Evaluation.parse({"resamples": 200}, "evaluation")
    whole = figure(mine, evaluation)
    monkeypatch.setattr(intervals, "_MOST_WEIGHTS", 100)
    assert figure(mine, evaluation) == whole
