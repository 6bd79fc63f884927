"""The tests behind the gate's policies: exact where they say so, and never passing more than agreed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import multinomial

from retrainer import metrics
from retrainer.gate.compare import bootstrap_test
from retrainer.gate.exact import (
    GAMMA,
    least_difference,
    noninferiority_p_value,
    score,
    smallest_gain,
)
from retrainer.gate.measured import measure
from retrainer.gate.pair import Pair, gains_of
from tests.conftest import first_in_ci
from tests.predictions import answered


@cache
def p_values(rows: int, margin: float) -> np.ndarray:
    """[better, worse] for every table of so many rows; nan where there is none."""
    found: np.ndarray = np.full((rows + 1, rows + 1), np.nan)
    for better in range(rows + 1):
        for worse in range(rows + 1 - better):
            found[better, worse] = noninferiority_p_value(rows, better, worse, margin)
    return found


def size(passed: np.ndarray, rows: int, better: float, worse: float) -> float:
    """The chance of the marked tables, if the two shares are these."""
    wins, losses = np.nonzero(passed)
    tables = np.stack([wins, losses, rows - wins - losses], axis=1)
    return float(multinomial.pmf(tables, rows, [better, worse, max(0.0, 1 - better - worse)]).sum())


@pytest.mark.parametrize(("rows", "margin"), [(15, 0.1), (30, 0.05), (40, 0.1)])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_a_model_worse_by_the_margin_or_more_passes_at_most_as_often_as_agreed(
    rows: int, margin: float, alpha: float
) -> None:
    """Summed over every table that can be, for every share of discordant rows: no luck in it."""
    passed = p_values(rows, margin) <= alpha
    for loss in (margin, (1 + margin) / 2):
        for share in np.linspace(loss, 1, 60):
            assert size(passed, rows, (share - loss) / 2, (share + loss) / 2) <= alpha
    # It is no empty promise: somewhere it is nearly used.
    most = max(size(passed, rows, (s - margin) / 2, (s + margin) / 2) for s in np.linspace(margin, 1, 60))
    assert most > 0.5 * alpha


@pytest.mark.parametrize(("rows", "margin"), [(15, 0.1), (30, 0.05), (40, 0.1)])
def test_more_rows_in_its_favour_never_count_against_a_model(rows: int, margin: float) -> None:
    found = p_values(rows, margin)
    assert np.nanmin(found) >= GAMMA and np.nanmax(found) <= 1
    # A row that was lost is won instead: the discordant rows stay as many.
    for discordant in range(rows + 1):
        along = [found[better, discordant - better] for better in range(discordant + 1)]
        assert all(np.diff(along) <= 1e-12)
    for alpha in (0.01, 0.05, 0.2):
        passed = found <= alpha
        assert not (passed[:-1] & ~passed[1:] & ~np.isnan(found[1:])).any()
        assert not (passed[:, 1:] & ~passed[:, :-1]).any()


def test_the_p_value_is_the_largest_chance_over_the_plausible_shares() -> None:
    """By brute force: every table, a fine grid of shares, no shortcut."""
    rows, margin = 20, 0.1
    grid = [(b, w) for b in range(rows + 1) for w in range(rows + 1 - b)]
    every = np.array(grid)
    scores = score(every[:, 0], every[:, 1], rows, margin)
    for better, worse in [(0, 0), (3, 0), (5, 2), (2, 5), (10, 10)]:
        as_good = np.zeros((rows + 1, rows + 1), bool)
        far = scores >= score(np.array(better), np.array(worse), rows, margin) - 1e-9
        as_good[every[far, 0], every[far, 1]] = True
        whole = max(size(as_good, rows, (s - margin) / 2, (s + margin) / 2) for s in np.linspace(0.1, 1, 400))
        found = noninferiority_p_value(rows, better, worse, margin)
        assert found <= whole + GAMMA + 1e-5  # the grid is not that fine
        seen = max(margin, (better + worse) / rows)
        assert found >= size(as_good, rows, (seen - margin) / 2, (seen + margin) / 2)


@settings(deadline=None, max_examples=50)
@given(data=st.data(), rows=st.integers(5, 200), margin=st.sampled_from([0.01, 0.05, 0.2]))
def test_the_score_takes_the_likeliest_share_under_the_hypothesis(
    data: st.DataObject, rows: int, margin: float
) -> None:
    better = data.draw(st.integers(0, rows // 2))
    worse = data.draw(st.integers(0, rows // 2))

    def unlikelihood(lost: float) -> float:
        shares = np.maximum([lost - margin, lost, 1 - 2 * lost + margin], 1e-300)
        return -float(np.dot([better, worse, rows - better - worse], np.log(shares)))

    bounds = (margin, (1 + margin) / 2)
    lost = minimize_scalar(unlikelihood, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x
    expected = (better - worse + rows * margin) / np.sqrt(rows * (2 * lost - margin - margin**2))
    assert float(score(np.array(better), np.array(worse), rows, margin)) == pytest.approx(expected, abs=2e-3)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), rows=st.integers(1, 20_000), margin=st.sampled_from([0.001, 0.01, 0.1, 0.9]))
def test_the_p_value_is_defined_for_every_pair_of_counts(
    data: st.DataObject, rows: int, margin: float
) -> None:
    better = data.draw(st.integers(0, rows))
    worse = data.draw(st.integers(0, rows - better))
    assert 0 < noninferiority_p_value(rows, better, worse, margin) <= 1


def test_rows_without_any_difference_show_a_margin_only_when_they_are_many() -> None:
    """A model worse by the margin would lose no row of N with the chance (1 - margin) ** N."""
    for rows in (10, 298, 299):
        expected = 0.99**rows + GAMMA
        assert noninferiority_p_value(rows, 0, 0, 0.01) == pytest.approx(expected, rel=1e-6)
    # So many rows exclude that as many are discordant as such a loss needs.
    assert noninferiority_p_value(2000, 0, 0, 0.01) == GAMMA


def test_a_wider_margin_lets_worse_models_pass() -> None:
    found = [least_difference(1000, 0.1, margin, 0.05, 0.8) for margin in (0.001, 0.01, 0.03, 0.1)]
    assert found == sorted(found, reverse=True) and found[0] > 0 > found[-1] > -0.1
    almost = smallest_gain(1000, 0.1, 0.05, 0.8)
    assert almost is not None and found[0] == pytest.approx(almost, abs=0.003)


SKILLS = {"equal": (3.0, 3.0), "weaker": (2.6, 3.0)}
LABELS = ("a", "b", "c")


def models(
    metric: str, rows: int, skills: tuple[float, float], draw: np.random.Generator, draws: int = 4000
) -> Pair:
    truth = draw.choice(3, rows, p=[0.6, 0.3, 0.1])
    shared = draw.normal(size=(rows, 3))
    named = [[LABELS[n]] for n in truth]
    found = []
    for skill in skills:
        logits = shared + draw.normal(size=(rows, 3))
        logits[np.arange(rows), truth] += skill
        powers = np.exp(logits)
        tables = answered(powers / powers.sum(axis=1, keepdims=True), LABELS, named)
        found.append(measure(metrics.load(metric, "test"), metric, *tables))
    return Pair(*found, draws=draws)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["macro_f1", "log_loss"])
@pytest.mark.parametrize("case", first_in_ci(["equal", "weaker"]))
def test_the_bootstrap_passes_models_on_the_edge_at_most_as_often_as_agreed(metric: str, case: str) -> None:
    """Equal models with margin 0, and models that are worse by just the margin."""
    many = models(metric, 200_000, SKILLS[case], np.random.default_rng(0))
    margin = 0.0 if case == "equal" else -many.gain
    assert margin >= 0
    draw = np.random.default_rng(1)
    trials, passed = 400, 0
    for _ in range(trials):
        passed += bootstrap_test(models(metric, 200, SKILLS[case], draw, 300), margin).p_value <= 0.05
    assert passed / trials <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_the_bootstrap_finds_a_gain_of_the_size_that_its_spread_promises() -> None:
    rows, trials = 400, 100
    draw = np.random.default_rng(2)
    skills = (3.3, 3.0)
    spread = np.mean(
        [bootstrap_test(models("log_loss", rows, skills, draw, 300)).standard_error or 0 for _ in range(20)]
    )
    many = models("log_loss", 50_000, skills, np.random.default_rng(0))
    gain = many.gain
    from statistics import NormalDist

    expected = NormalDist().cdf(gain / spread - NormalDist().inv_cdf(0.95))
    found = sum(
        bootstrap_test(models("log_loss", rows, skills, draw, 300)).p_value <= 0.05 for _ in range(trials)
    )
    assert found / trials == pytest.approx(expected, abs=0.12)


def test_the_two_models_are_drawn_together() -> None:
    """Were each drawn on its own, equal models would differ on every draw."""
    for metric in ("macro_f1", "log_loss"):
        pair = models(metric, 300, (3.0, 3.0), np.random.default_rng(0))
        same = bootstrap_test(Pair(pair.candidate, pair.candidate), margin=0.1)
        assert (same.difference, same.standard_error, same.p_value) == (0, 0, 1)
        apart = np.hypot(*(np.std([_alone(pair, side, n) for n in range(200)]) for side in (0, 1)))
        assert (bootstrap_test(pair).standard_error or 1) < 0.95 * apart


def _alone(pair: Pair, side: int, seed: int) -> float:
    one = (pair.candidate, pair.other)[side]
    return one.only(np.random.default_rng((side, seed)).integers(0, one.rows, one.rows)).value


def test_many_rows_are_drawn_in_blocks() -> None:
    pair = models("macro_f1", 9000, (3.0, 2.0), np.random.default_rng(0), 200)
    found = bootstrap_test(pair)
    rows = bootstrap_test(pair.only(np.arange(9000) < 4000))
    assert found.p_value < 0.01
    assert found.standard_error == pytest.approx((rows.standard_error or 0) * (4000 / 9000) ** 0.5, rel=0.2)
    assert gains_of(pair)(np.ones((1, 4096)))[0] == pytest.approx(found.difference)
