"""Figures and intervals, against scikit-learn and against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support

from retrainer.errors import UserError
from retrainer.evaluation.answers import Answers, answers
from retrainer.evaluation.intervals import MOST_BLOCKS, wilson
from retrainer.evaluation.metrics import headline, measure
from retrainer.settings import Evaluation

SETTINGS = Evaluation()


def single(rows: int, classes: int, skill: float = 2.0, seed: int = 0) -> Answers:
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, rows)
    logits = draw.normal(size=(rows, classes))
    logits[np.arange(rows), truth] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = tuple(f"class {n:03}" for n in range(classes))
    return answers(probabilities.astype(np.float32), labels, [[labels[n]] for n in truth], multi_label=False)


def several(rows: int, classes: int, seed: int = 0) -> Answers:
    draw = np.random.default_rng(seed)
    truth = draw.random((rows, classes)) < 0.3
    probabilities = 1 / (1 + np.exp(-(draw.normal(size=truth.shape) + 3 * truth - 1.5)))
    labels = tuple(f"tag {n}" for n in range(classes))
    named = [[labels[n] for n in np.flatnonzero(row)] for row in truth]
    return answers(probabilities, labels, named, multi_label=True)


@pytest.mark.parametrize(
    ("hits", "rows", "low", "high"),
    [
        (10, 20, 0.299298, 0.700702),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (81, 263, 0.255274, 0.366227),
    ],
)
def test_wilson_as_published(hits: int, rows: int, low: float, high: float) -> None:
    found = wilson(hits, rows, 0.95)
    assert found["low"] == pytest.approx(low, abs=1e-4)
    assert found["high"] == pytest.approx(high, abs=1e-4)
    assert found["value"] == pytest.approx(hits / rows, abs=1e-6)
    assert found["n"] == rows


def test_single_label_figures_are_those_of_scikit_learn() -> None:
    told = single(500, 7)
    found = measure(told, SETTINGS)
    metrics = found["metrics"]
    assert list(metrics) == ["accuracy", "macro_f1", "log_loss", "calibration_error"]
    assert metrics["accuracy"]["value"] == pytest.approx((told.decided == told.targets).mean(), abs=1e-6)
    assert metrics["macro_f1"]["value"] == pytest.approx(
        f1_score(told.targets, told.decided, average="macro"), abs=1e-6
    )
    assert metrics["log_loss"]["value"] == pytest.approx(
        -np.log(told.probabilities[np.arange(500), told.targets]).mean(), abs=1e-5
    )
    table = precision_recall_fscore_support(told.targets, told.decided)
    for name, column in zip(("precision", "recall", "f1", "support"), table, strict=True):
        assert [row[name] for row in found["per_class"]] == pytest.approx(list(column), abs=1e-6)


def test_multi_label_figures_are_those_of_scikit_learn() -> None:
    told = several(400, 5)
    metrics = headline(told, SETTINGS)
    assert list(metrics) == ["subset_accuracy", "micro_f1", "macro_f1", "log_loss", "calibration_error"]
    exact = (told.decided == told.targets).all(axis=1).mean()
    assert metrics["subset_accuracy"]["value"] == pytest.approx(exact, abs=1e-6)
    for average in ("micro", "macro"):
        expected = f1_score(told.targets, told.decided, average=average)
        assert metrics[f"{average}_f1"]["value"] == pytest.approx(expected, abs=1e-6)
    flat = log_loss(told.targets.ravel(), told.probabilities.ravel())
    assert metrics["log_loss"]["value"] == pytest.approx(flat, abs=1e-5)


def test_calibration_error_by_hand() -> None:
    # Two rows sure to 0.9, one of them right; two rows sure to 0.6, both right.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    told = answers(probabilities, ("a", "b"), [["a"], ["b"], ["a"], ["b"]], multi_label=False)
    found = headline(told, SETTINGS)["calibration_error"]
    assert found["value"] == pytest.approx((abs(1.8 - 1) + abs(1.2 - 2)) / 4, abs=1e-6)


@pytest.mark.parametrize("told", [single(300, 5), several(300, 4)], ids=["single", "multi"])
def test_intervals_hold_their_value_and_agree_with_a_plain_bootstrap(told: Answers) -> None:
    found = headline(told, SETTINGS)
    draw = np.random.default_rng(7)
    values = []
    for _ in range(400):
        rows = draw.integers(0, told.rows, told.rows)
        values.append(f1_score(told.targets[rows], told.decided[rows], average="macro", zero_division=0))
    spread = np.quantile(values, 0.975) - np.quantile(values, 0.025)
    assert found["macro_f1"]["high"] - found["macro_f1"]["low"] == pytest.approx(spread, rel=0.15)
    for figure in found.values():
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"]


def test_large_sets_are_drawn_in_blocks_with_intervals_of_the_same_width() -> None:
    rows = MOST_BLOCKS * 3 + 5
    found = headline(single(rows, 4), SETTINGS)
    # A mean's interval has a closed form to compare with; macro-F1 here is close to the accuracy.
    width = found["accuracy"]["high"] - found["accuracy"]["low"]
    assert found["macro_f1"]["high"] - found["macro_f1"]["low"] == pytest.approx(width, rel=0.12)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = headline(single(40_000, 3, seed=99), Evaluation(resamples=100))["macro_f1"]["value"]
    covered = 0
    for seed in range(100):
        found = headline(single(200, 3, seed=seed), Evaluation(resamples=300))["macro_f1"]
        covered += found["low"] <= truth <= found["high"]
    assert 88 <= covered <= 99


def test_the_same_seed_gives_the_same_figures() -> None:
    told = single(200, 4)
    assert headline(told, SETTINGS) == headline(told, SETTINGS)
    other = headline(told, Evaluation(seed=1))
    assert other["macro_f1"]["value"] == headline(told, SETTINGS)["macro_f1"]["value"]
    assert other["macro_f1"] != headline(told, SETTINGS)["macro_f1"]


def test_confusion_counts_every_row_once() -> None:
    told = single(250, 6)
    confusion = measure(told, SETTINGS)["confusion"]
    assert sum(count for _, _, count in confusion["cells"]) == 250
    right = sum(count for true, given, count in confusion["cells"] if true == given)
    assert right == told.correct.sum()


def test_a_class_that_the_model_does_not_know_is_wrong_and_counts() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    told = answers(probabilities, ("a", "b"), [["a"], ["b"], ["new"]], multi_label=False)
    assert told.labels == ("a", "b", "new")
    assert told.correct.tolist() == [True, True, False]
    found = measure(told, SETTINGS)
    stranger = found["per_class"][2]
    assert (stranger["recall"], stranger["precision"], stranger["f1"]) == (0.0, None, 0.0)
    assert math.isfinite(found["metrics"]["log_loss"]["value"])


def test_a_class_without_test_rows_has_no_recall_and_leaves_the_average_alone() -> None:
    probabilities = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1]])
    told = answers(probabilities, ("a", "b", "rare"), [["a"], ["b"]], multi_label=False)
    found = measure(told, SETTINGS)
    assert found["per_class"][2] == {
        "label": "rare", "precision": None, "recall": None, "f1": None, "support": 0, "predicted": 0,
    }  # fmt: skip
    assert found["metrics"]["macro_f1"]["value"] == 1.0


def test_multi_label_rows_may_have_no_label_at_all() -> None:
    told = answers(np.array([[0.1, 0.2], [0.3, 0.4]]), ("a", "b"), [[], []], multi_label=True)
    found = headline(told, SETTINGS)
    assert found["subset_accuracy"]["value"] == 1.0
    assert found["micro_f1"]["value"] == 0.0


def test_one_row_is_enough_for_figures() -> None:
    found = headline(answers(np.array([[0.4, 0.6]]), ("a", "b"), [["b"]], False), SETTINGS)
    assert found["accuracy"]["value"] == 1.0 and found["accuracy"]["low"] < 0.3


def test_answers_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="not finite"):
        answers(np.array([[np.nan, 0.5]]), ("a", "b"), [["a"]], False)


def test_a_row_with_two_labels_needs_a_multi_label_task() -> None:
    with pytest.raises(UserError, match=r"test row 1 has 2 labels, not one; is task\.multi_label meant"):
        answers(np.array([[0.5, 0.5]]), ("a", "b"), [["a", "b"]], False)


def test_the_task_decides() -> None:
    told = answers(np.array([[0.4, 0.6]]), ("a", "b"), [["a"]], True, decide=lambda p: p > 0.3)
    assert told.names(0) == ["a", "b"] and not told.correct[0]
