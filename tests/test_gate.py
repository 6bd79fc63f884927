"""The gate: equal models pass no more often than agreed, and every verdict says why."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from retrainer.errors import UserError
from retrainer.evaluation.compare import compare
from retrainer.registry.gate import ASSUMED_DISCORDANT_SHARE, judge
from retrainer.settings import Gate

OPEN = Gate(beat_majority=False)


def answers(right: int, rows: int) -> np.ndarray:
    """The first `right` of `rows` answers are right."""
    return np.arange(rows) < right


def pair(better: int, worse: int, both: int) -> tuple[np.ndarray, np.ndarray]:
    """Candidate and champion that differ on `better + worse` rows."""
    candidate = np.array([True] * better + [False] * worse + [True] * both)
    champion = np.array([False] * better + [True] * worse + [True] * both)
    return candidate, champion


@settings(deadline=None)
@given(better=st.integers(0, 300), worse=st.integers(0, 300))
def test_the_p_value_is_the_exact_binomial_one(better: int, worse: int) -> None:
    verdict = judge(OPEN, *pair(better, worse, both=5))
    discordant = better + worse
    exact = binomtest(better, discordant, 0.5, alternative="greater").pvalue if discordant else 1.0
    assert verdict.p_value == pytest.approx(exact, rel=1e-9, abs=1e-300)
    assert (verdict.better, verdict.worse) == (better, worse)
    assert verdict.verdict == ("champion" if exact <= OPEN.alpha else "challenger")


@pytest.mark.parametrize(("rows", "discordant"), [(60, 0.3), (500, 0.1), (500, 0.5)])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_an_equal_model_is_rarely_promoted(rows: int, discordant: float, alpha: float) -> None:
    draw = np.random.default_rng(0)
    trials = 1000
    promoted = 0
    for _ in range(trials):
        differ, candidate_wins = draw.random(rows) < discordant, draw.random(rows) < 0.5
        both = draw.random(rows) < 0.8
        candidate = np.where(differ, candidate_wins, both)
        champion = np.where(differ, ~candidate_wins, both)
        promoted += compare(candidate, champion).p_value <= alpha  # the rule, as the test above shows
    # Three standard deviations above the agreed rate would be a broken test, not bad luck.
    assert promoted / trials <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / trials)


def test_a_gain_of_the_smallest_difference_is_found_as_often_as_promised() -> None:
    rows, discordant = 400, 0.2
    gate = Gate(alpha=0.05, power=0.8, beat_majority=False)
    draw = np.random.default_rng(1)
    difference = judge(gate, *pair(40, 40, both=320)).smallest_difference
    assert difference is not None
    favour = (1 + difference / discordant) / 2
    found = 0
    for _ in range(1000):
        differ, wins = draw.random(rows) < discordant, draw.random(rows) < favour
        found += compare(np.where(differ, wins, True), np.where(differ, ~wins, True)).p_value <= gate.alpha
    assert found / 1000 == pytest.approx(gate.power, abs=0.05)


def test_the_first_model_is_champion_when_the_floors_hold() -> None:
    verdict = judge(Gate(), answers(90, 100), majority=answers(50, 100))
    assert verdict.verdict == "champion"
    assert verdict.reasons == ("there is no champion yet",)
    assert (verdict.p_value, verdict.better, verdict.worse) == (None, None, None)
    assert verdict.discordant_assumed
    assert verdict.discordant_share == ASSUMED_DISCORDANT_SHARE


def test_a_better_model_replaces_the_champion() -> None:
    verdict = judge(OPEN, *pair(20, 4, both=76))
    assert verdict.verdict == "champion"
    assert verdict.reasons[0].startswith("better than the champion: of 100 rows it alone has 20 right")
    assert "≤ 0.05" in verdict.reasons[0]
    assert not verdict.discordant_assumed
    assert verdict.discordant_share == 0.24


def test_a_model_that_may_be_better_by_luck_does_not() -> None:
    verdict = judge(OPEN, *pair(8, 4, both=88))
    assert verdict.accuracy > 0.95
    assert verdict.verdict == "challenger"
    assert verdict.reasons[0].startswith("not shown to be better than the champion")
    assert "> 0.05" in verdict.reasons[0]


def test_the_champion_stays_champion_whatever_the_floors_say() -> None:
    gate = Gate(min_accuracy=0.99)
    same = answers(90, 100)
    verdict = judge(gate, same, same, majority=answers(50, 100), is_champion=True)
    assert verdict.verdict == "champion"
    assert verdict.reasons[-1] == "it is the champion already"


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        (Gate(min_accuracy=0.95), r"accuracy 0\.9000 is below gate\.min_accuracy = 0\.95"),
        (Gate(), r"not shown to beat always answering the commonest class .*gate\.beat_majority"),
        (Gate(beat_baseline=True), r"not shown to beat the cheap baseline .*gate\.beat_baseline"),
    ],
)
def test_below_a_floor_nothing_is_promoted(gate: Gate, reason: str) -> None:
    same = answers(90, 100)
    verdict = judge(gate, same, majority=same, baseline=same)
    assert verdict.verdict == "challenger"
    assert any(re.search(reason, said) for said in verdict.reasons)


def test_a_floor_without_its_figures_says_what_to_set() -> None:
    with pytest.raises(UserError, match=r"gate\.beat_baseline needs .* set evaluation\.baseline: true"):
        judge(Gate(beat_baseline=True), answers(9, 10), majority=answers(5, 10))


def test_too_few_rows_are_told() -> None:
    assert judge(OPEN, answers(3, 3)).smallest_difference is None
