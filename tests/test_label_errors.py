"""Suspected label errors: planted flips are found, and the reference implementation finds the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab.filter import find_label_issues

from retrainer.label_errors import suspected


def drawn(
    rows: int, classes: int, skill: float, flipped: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of a model of that skill, labels of which some are wrong, and which are."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, rows)
    wrong = draw.random(rows) < flipped
    given = np.where(wrong, (truth + draw.integers(1, classes, rows)) % classes, truth)
    logits = draw.normal(size=(rows, classes))
    logits[np.arange(rows), truth] += skill
    raised = np.exp(logits)
    return raised / raised.sum(axis=1, keepdims=True), given, wrong


@pytest.mark.parametrize("classes", [2, 3, 10, 50])
@pytest.mark.parametrize("skill", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_same_rows_in_the_same_order_as_cleanlab(classes: int, skill: float, seed: int) -> None:
    probabilities, given, _ = drawn(2000, classes, skill, 0.05, seed)
    theirs = find_label_issues(
        given,
        probabilities,
        filter_by="confident_learning",
        return_indices_ranked_by="normalized_margin",
        n_jobs=1,
    )
    ours = suspected(probabilities, given)
    thresholds = np.array([probabilities[given == k, k].mean() for k in range(classes)])
    likeliest = probabilities.argmax(axis=1)
    reached = probabilities.max(axis=1) >= thresholds[likeliest]
    # They ask for no other above the given class where the likeliest class stays below its threshold.
    assert ours.tolist() == [row for row in theirs if reached[row] or row in set(ours)]
    assert set(ours) <= set(theirs.tolist())
    assert len(ours) > 0 and len(theirs) - len(ours) <= 0.02 * len(given)


def test_planted_flips_are_found_and_come_first() -> None:
    probabilities, given, wrong = drawn(3000, 5, 5.0, 0.04, 0)
    found = suspected(probabilities, given)
    planted = int(wrong.sum())
    assert wrong[found].sum() >= 0.8 * planted
    assert wrong[found[: planted // 2]].all()


def test_nothing_is_suspected_of_a_model_that_agrees() -> None:
    given = np.arange(30) % 3
    assert len(suspected(np.eye(3)[given], given)) == 0


def test_a_rival_below_its_threshold_is_no_reason_and_the_least_margin_comes_first() -> None:
    sure = [[0.9, 0.1, 0.0]] * 4 + [[0.1, 0.9, 0.0]] * 4 + [[0.0, 0.2, 0.8]] * 4
    doubtful = [[0.4, 0.6, 0.0], [0.1, 0.9, 0.0], [0.05, 0.95, 0.0]]
    given = np.array([0] * 4 + [1] * 4 + [2] * 4 + [0, 0, 2])
    assert suspected(np.array(sure + doubtful), given).tolist() == [14, 13]


def test_a_class_that_no_row_is_given_is_never_suggested() -> None:
    probabilities = np.array([[0.2, 0.1, 0.7], [0.9, 0.1, 0.0], [0.3, 0.7, 0.0]])
    assert len(suspected(probabilities, np.array([0, 0, 1]))) == 0
    assert len(suspected(np.zeros((0, 3)), np.zeros(0, np.int64))) == 0
