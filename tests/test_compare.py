"""The paired test: exact, one-sided, and honest about what so many rows can show."""

from __future__ import annotations

from itertools import pairwise
from math import comb

import numpy as np
import pytest
from scipy.stats import binom

from retrainer import metrics
from retrainer.gate.compare import Comparison, compare
from retrainer.gate.exact import mcnemar_p_value, smallest_gain
from retrainer.gate.measured import Measured
from retrainer.gate.pair import Pair


def shares(metric: str, *hits: np.ndarray) -> Pair:
    """Two models by a share of rows, from which rows are hits of each."""
    made = metrics.load(metric, "test")
    return Pair(*(Measured(made, np.stack([one, np.ones(len(one))], axis=1).astype(float)) for one in hits))


def versus(candidate: np.ndarray, other: np.ndarray) -> Comparison:
    return compare(shares("accuracy", candidate, other))


@pytest.mark.parametrize(("better", "worse"), [(5, 0), (10, 2), (7, 7), (1, 30), (300, 250)])
def test_the_p_value_is_the_binomial_tail(better: int, worse: int) -> None:
    pairs = better + worse
    exact = sum(comb(pairs, k) for k in range(better, pairs + 1)) / 2**pairs
    assert mcnemar_p_value(better, worse) == pytest.approx(exact, rel=1e-9)


def test_equal_models_prove_nothing() -> None:
    same = np.array([True, False, True])
    found = versus(same, same)
    assert (found.better, found.worse, found.p_value, found.difference) == (0, 0, 1.0, 0.0)


def test_only_rows_where_one_alone_is_right_count() -> None:
    candidate = np.array([True, True, True, False, False, True])
    other = np.array([False, False, True, False, True, False])
    found = versus(candidate, other)
    assert (found.better, found.worse) == (3, 1)
    assert (found.candidate, found.other) == (4 / 6, 2 / 6)
    assert found.difference == pytest.approx(2 / 6)
    assert found.discordant_share == pytest.approx(4 / 6)
    assert found.p_value == pytest.approx(5 / 16)


def test_where_less_is_better_a_hit_counts_against_a_model() -> None:
    """Log loss of 0 or 1 a row stands for a rate of errors."""
    errors, more = np.array([True, False, False, False]), np.array([True, True, True, False])
    found = compare(shares("log_loss", errors, more))
    assert (found.better, found.worse, found.difference) == (2, 0, 0.5)
    assert (found.candidate, found.other, found.p_value) == (0.25, 0.75, 0.25)


def test_an_equal_model_passes_no_more_often_than_alpha() -> None:
    draw = np.random.default_rng(0)
    passed = 0
    for _ in range(2000):
        rows = draw.random((2, 300)) < 0.85
        passed += versus(rows[0], rows[1]).p_value <= 0.05
    assert 0.02 < passed / 2000 <= 0.055


@pytest.mark.parametrize(("rows", "share"), [(300, 0.12), (3000, 0.05), (60, 0.3)])
def test_the_smallest_difference_has_the_power_it_claims(rows: int, share: float) -> None:
    gain = smallest_gain(rows, share, alpha=0.05, power=0.8)
    assert gain is not None and 0 < gain < 1
    better, worse = (max(share, gain) + gain) / 2, (max(share, gain) - gain) / 2
    drawn = np.random.default_rng(1).multinomial(rows, [better, worse, 1 - better - worse], size=4000)
    found = np.mean(binom.sf(drawn[:, 0] - 1, drawn[:, 0] + drawn[:, 1], 0.5) <= 0.05)
    assert found == pytest.approx(0.8, abs=0.03)


def test_more_rows_show_smaller_differences() -> None:
    found = [smallest_gain(rows, 0.1, 0.05, 0.8) for rows in (20, 100, 1000, 10_000, 1_000_000)]
    assert all(a is not None and b is not None and a > b for a, b in pairwise(found))


def test_too_few_rows_show_nothing() -> None:
    assert smallest_gain(4, 0.5, alpha=0.05, power=0.8) is None
    assert smallest_gain(5, 0.0, alpha=0.05, power=0.8) is not None


def test_rows_that_cannot_be_paired_are_an_error() -> None:
    with pytest.raises(ValueError, match="cannot pair"):
        versus(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(ValueError, match="cannot pair"):
        versus(np.ones(0, bool), np.ones(0, bool))
