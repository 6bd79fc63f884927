"""Metrics of classification and intervals of any metric, against scikit-learn and against plain loops."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss

from retrainer import extend, metrics
from retrainer.errors import UserError
from retrainer.gate.compare import bootstrap_test, compare
from retrainer.gate.intervals import Figure, figure, figures, wilson
from retrainer.gate.measured import MOST_BLOCKS, Measured, measure
from retrainer.gate.pair import Pair
from retrainer.metrics import accuracy, calibration_error
from retrainer.metrics._classes import Classes, classes
from retrainer.settings import Evaluation, Task
from retrainer.tasks import make_task
from tests.predictions import Tables, answered, several, single

SETTINGS = Evaluation()
OF_CLASSES = ("accuracy", "macro_f1", "micro_f1", "log_loss", "calibration_error")


def measured(name: str, tables: Tables) -> Measured:
    return measure(metrics.load(name, "test"), name, *tables)


def figures_of(tables: Tables, settings: Evaluation = SETTINGS) -> dict[str, Figure]:
    return figures({name: measured(name, tables) for name in OF_CLASSES}, settings)


def scikit_learns(found: Classes) -> dict[str, float]:
    """Its own results; the calibration error, which it lacks, by a plain loop."""
    probabilities, truth, decided = found.probabilities, found.targets, found.decided
    confidence, right = (probabilities.ravel(), truth.ravel())
    if not found.multi_label:
        truth, decided = truth.argmax(axis=1), decided.argmax(axis=1)
        confidence, right = probabilities.max(axis=1), truth == decided
    bins = [(k / 15, (k + 1) / 15) for k in range(15)]
    inside = [(confidence > low) & (confidence <= high) for low, high in bins]
    gaps = [abs(confidence[one].sum() - right[one].sum()) for one in inside]
    shares = probabilities / probabilities.sum(axis=1, keepdims=True)  # float32 sums to nearly 1
    flat = (truth.ravel(), probabilities.ravel()) if found.multi_label else (truth, shares)
    return {
        "accuracy": accuracy_score(truth, decided),
        "macro_f1": f1_score(truth, decided, average="macro"),
        "micro_f1": f1_score(truth, decided, average="micro"),
        "log_loss": log_loss(*flat),
        "calibration_error": sum(gaps) / len(confidence),
    }


@pytest.mark.parametrize("tables", [single(500, 7), several(400, 5)], ids=["single", "multi"])
def test_values_are_those_of_scikit_learn(tables: Tables) -> None:
    expected = scikit_learns(classes(*tables))
    for name, found in figures_of(tables).items():
        assert found["value"] == pytest.approx(expected[name], abs=2e-6), name
        assert found["n"] == len(tables[0])


@pytest.mark.parametrize("name", sorted(extend.builtin_names("metrics")))
def test_a_metric_keeps_its_contract(name: str) -> None:
    metric = metrics.load(name, "test")
    assert metric.TITLE and metric.UNIT and metric.LOWEST < metric.HIGHEST
    assert isinstance(metric.HIGHER_IS_BETTER, bool)
    kinds = extend.builtin_names("tasks")
    assert any(metric.TARGET in make_task(Task(kind=kind)).target_columns for kind in kinds)
    with pytest.raises(UserError, match=r"gate\.metric: no 'acuracy' in retrainer/metrics; did you mean"):
        metrics.load("acuracy", "gate.metric")


@pytest.mark.parametrize("tables", [single(90, 4), several(90, 4)], ids=["single", "multi"])
@pytest.mark.parametrize("name", OF_CLASSES)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_changes_nothing(name: str, tables: Tables, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(tables[0]))
    turned = measured(name, (tables[0].take(order), tables[1].take(order)))
    assert turned.value == pytest.approx(measured(name, tables).value, rel=1e-12)
    assert np.array_equal(turned.statistics, measured(name, tables).statistics[order])


@pytest.mark.parametrize("tables", [single(90, 4), several(90, 4)], ids=["single", "multi"])
@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("margin", [0.0, 0.02])
def test_a_model_is_never_better_than_itself(name: str, tables: Tables, margin: float) -> None:
    one = measured(name, tables)
    found = compare(Pair(one, one), margin)
    assert (found.difference, found.discordant) == (0, 0)
    assert found.p_value > 0.1


def test_sums_over_parts_make_the_value_of_the_whole() -> None:
    tables = several(120, 5)
    for name in OF_CLASSES:
        whole = measured(name, tables)
        parts = [whole.only(np.arange(120) % 3 == part).statistics.sum(axis=0) for part in range(3)]
        assert float(whole.metric.value(np.sum(parts, axis=0))) == pytest.approx(whole.value)
        stacked = whole.metric.value(np.array(parts))  # any leading axes
        assert stacked.shape == (3,) and stacked[1] == pytest.approx(float(whole.metric.value(parts[1])))


# --- intervals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "rows", "low", "high"),
    [
        (10, 20, 0.299298, 0.700702),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (81, 263, 0.255274, 0.366227),
    ],
)
def test_wilsons_interval_equals_the_published_example(hits: int, rows: int, low: float, high: float) -> None:
    found = wilson(hits, rows, 0.95)
    assert found["low"] == pytest.approx(low, abs=1e-4)
    assert found["high"] == pytest.approx(high, abs=1e-4)
    assert found["value"] == pytest.approx(hits / rows, abs=1e-6)
    assert found["n"] == rows


@pytest.mark.parametrize("tables", [single(300, 5), several(300, 4)], ids=["single", "multi"])
def test_intervals_hold_their_value_and_agree_with_a_plain_bootstrap(tables: Tables) -> None:
    found, arrays = figures_of(tables), classes(*tables)
    draw = np.random.default_rng(7)
    values = []
    for _ in range(400):
        rows = draw.integers(0, 300, 300)
        truth, decided = arrays.targets[rows], arrays.decided[rows]
        values.append(f1_score(truth, decided, average="macro", zero_division=0))
    spread = np.quantile(values, 0.975) - np.quantile(values, 0.025)
    assert found["macro_f1"]["high"] - found["macro_f1"]["low"] == pytest.approx(spread, rel=0.15)
    for one in found.values():
        assert 0 <= one["low"] <= one["value"] <= one["high"]


def test_a_share_of_rows_has_wilsons_interval_and_the_mean_of_a_loss_the_normal_one() -> None:
    tables = single(400, 5)
    share, loss = measured("accuracy", tables), measured("log_loss", tables)
    assert share.is_share and not loss.is_share
    assert figure(share, SETTINGS) == wilson(share.hits, 400, 0.95)
    found, losses = figure(loss, SETTINGS), loss.statistics[:, 0]
    width = 2 * NormalDist().inv_cdf(0.975) * losses.std() / 20
    assert found["high"] - found["low"] == pytest.approx(width, rel=0.1)


def test_large_sets_are_drawn_in_blocks_with_intervals_of_the_same_width() -> None:
    found = figures_of(single(MOST_BLOCKS * 3 + 5, 4))
    # A share's interval has a closed form to compare with; macro-F1 here is close to the accuracy.
    width = found["accuracy"]["high"] - found["accuracy"]["low"]
    assert found["macro_f1"]["high"] - found["macro_f1"]["low"] == pytest.approx(width, rel=0.12)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = measured("macro_f1", single(40_000, 3, seed=99)).value
    covered = 0
    for seed in range(100):
        found = figure(measured("macro_f1", single(200, 3, seed=seed)), Evaluation(resamples=300))
        covered += found["low"] <= truth <= found["high"]
    assert 88 <= covered <= 99


def test_the_same_seed_gives_the_same_figures() -> None:
    one = measured("macro_f1", single(200, 4))
    assert figure(one, SETTINGS) == figure(one, SETTINGS)
    other = figure(one, Evaluation(seed=1))
    assert other["value"] == figure(one, SETTINGS)["value"]
    assert other != figure(one, SETTINGS)


@pytest.mark.parametrize(("name", "most"), [("micro_f1", 0.05), ("calibration_error", 0.07)])
def test_an_equal_model_passes_by_a_metric_that_is_no_share_hardly_more_often_than_agreed(
    name: str, most: float
) -> None:
    """Two samples of one model's rows are two equal models. Of a calibration error, which is no mean but one
    of absolute values, 200 rows say less than the bootstrap thinks."""
    whole = measured(name, several(20_000, 4, seed=3))
    draw = np.random.default_rng(0)
    trials, passed = 300, 0
    for _ in range(trials):
        pair = Pair(*(whole.only(draw.integers(0, whole.rows, 200)) for _ in range(2)), draws=300)
        passed += bootstrap_test(pair).p_value <= 0.05
    assert passed / trials <= most + 3 * np.sqrt(0.05 * 0.95 / trials)


# --- classes that are odd --------------------------------------------------------------------------------


def test_calibration_error_by_hand() -> None:
    # Two rows sure to 0.9, one of them right; two rows sure to 0.6, both right.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    tables = answered(probabilities, ("a", "b"), [["a"], ["b"], ["a"], ["b"]])
    found = float(calibration_error.value(calibration_error.statistics(*tables).sum(axis=0)))
    assert found == pytest.approx((abs(1.8 - 1) + abs(1.2 - 2)) / 4, abs=1e-6)


def test_a_class_that_the_model_does_not_know_is_wrong_and_counts() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    tables = answered(probabilities, ("a", "b"), [["a"], ["b"], ["new"]])
    assert classes(*tables).names == ("a", "b", "new")
    assert accuracy.statistics(*tables)[:, 0].tolist() == [1, 1, 0]
    found = figures_of(tables)
    assert found["macro_f1"]["value"] == pytest.approx((2 / 3 + 1 + 0) / 3, abs=1e-6)
    assert math.isfinite(found["log_loss"]["value"]) and found["log_loss"]["value"] > 10


def test_a_class_without_test_rows_leaves_the_average_alone() -> None:
    probabilities = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1]])
    assert measured("macro_f1", answered(probabilities, ("a", "b", "rare"), [["a"], ["b"]])).value == 1.0


def test_multi_label_rows_may_have_no_label_at_all() -> None:
    tables = answered(np.array([[0.1, 0.2], [0.3, 0.4]]), ("a", "b"), [[], []], multi_label=True)
    found = figures_of(tables)
    assert found["accuracy"]["value"] == 1.0
    assert found["micro_f1"]["value"] == found["macro_f1"]["value"] == 0.0


def test_one_row_is_enough_for_figures() -> None:
    found = figures_of(answered(np.array([[0.4, 0.6]]), ("a", "b"), [["b"]]))
    assert found["accuracy"]["value"] == 1.0 and found["accuracy"]["low"] < 0.3


@pytest.mark.parametrize("name", OF_CLASSES)
def test_answers_that_are_no_numbers_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="not finite"):
        measured(name, answered(np.array([[np.nan, 0.5]]), ("a", "b"), [["a"]]))


def test_a_row_with_two_labels_needs_a_multi_label_task() -> None:
    with pytest.raises(UserError, match=r"test row 1 has 2 labels, not one; is task\.multi_label meant"):
        measured("accuracy", answered(np.array([[0.5, 0.5]]), ("a", "b"), [["a", "b"]]))


def test_a_metric_of_another_task_is_refused_by_its_name() -> None:
    predictions, truth = single(4, 2)
    with pytest.raises(UserError, match="the metric macro_f1 does not suit this task"):
        measured("macro_f1", (predictions, truth.drop_columns(["labels"])))
