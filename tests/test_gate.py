"""The gate: equal models pass no more often than agreed, and every verdict says why."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from retrainer import metrics
from retrainer.errors import UserError
from retrainer.gate.compare import FEWEST_DISCORDANT, bootstrap_test, compare, detectable_share
from retrainer.gate.contest import ASSUMED_DISCORDANT_SHARE
from retrainer.gate.exact import mcnemar_p_value, noninferiority_p_value
from retrainer.gate.pair import Pair
from retrainer.gate.rules import Rule
from retrainer.gate.verdict import judge
from retrainer.settings import Gate
from tests.gate_cases import (
    FIRST,
    NOT_WORSE,
    OPEN,
    against,
    alone,
    by_macro_f1,
    models,
    pair,
    right,
    told,
)


@settings(deadline=None, max_examples=50)
@given(better=st.integers(0, 300), worse=st.integers(0, 300))
def test_the_p_value_is_the_exact_binomial_one(better: int, worse: int) -> None:
    verdict = judge(OPEN, pair(better, worse, both=5))
    discordant = better + worse
    exact = binomtest(better, discordant, 0.5, alternative="greater").pvalue if discordant else 1.0
    assert verdict.p_value == pytest.approx(exact, rel=1e-9, abs=1e-300)
    assert (verdict.better, verdict.worse) == (better, worse)
    assert verdict.verdict == ("champion" if exact <= OPEN.alpha else "challenger")


@settings(deadline=None, max_examples=25)
@given(
    better=st.integers(0, 60),
    worse=st.integers(0, 60),
    both=st.integers(1, 200),
    gate=st.sampled_from([OPEN, NOT_WORSE, NOT_WORSE.model_copy(update={"margin": 0.2})]),
)
def test_one_more_row_that_is_better_never_turns_a_promotion_into_a_refusal(
    better: int, worse: int, both: int, gate: Gate
) -> None:
    before = judge(gate, pair(better, worse, both))
    assert 0 <= (before.p_value or 0) <= 1
    if before.verdict == "champion":
        assert judge(gate, pair(better + 1, worse, both - 1)).verdict == "champion"
        assert judge(gate, pair(better + 1, worse, both)).verdict == "champion"
        assert judge(gate, pair(better, max(0, worse - 1), both + 1)).verdict == "champion"


@settings(deadline=None, max_examples=40)
@given(better=st.integers(0, 200), worse=st.integers(0, 200))
def test_of_two_models_at_most_one_is_better(better: int, worse: int) -> None:
    forth, back = judge(OPEN, pair(better, worse, 5)), judge(OPEN, pair(worse, better, 5))
    assert "challenger" in (forth.verdict, back.verdict)
    assert forth.difference == pytest.approx(-(back.difference or 0))


@pytest.mark.parametrize(("rows", "discordant"), [(60, 0.3), (500, 0.1), (500, 0.5)])
def test_an_equal_model_is_rarely_promoted(rows: int, discordant: float) -> None:
    draw = np.random.default_rng(0)
    trials, p_values = 1000, []
    for _ in range(trials):
        differ, candidate_wins = draw.random(rows) < discordant, draw.random(rows) < 0.5
        both = draw.random(rows) < 0.8
        candidate = np.where(differ, candidate_wins, both)
        champion = np.where(differ, ~candidate_wins, both)
        versus = compare(Pair(told(candidate), told(champion)))
        p_values.append(versus.p_value)
    for alpha in (0.01, 0.05, 0.2):
        promoted = sum(p_value <= alpha for p_value in p_values)  # the rule, as the test above shows
        # Three standard deviations above the agreed rate would be a broken test, not bad luck.
        assert promoted / trials <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / trials), alpha


@pytest.mark.parametrize(("gate", "share"), [(OPEN, 0.2), (NOT_WORSE, 0.1)])
def test_the_smallest_difference_is_found_as_often_as_promised(gate: Gate, share: float) -> None:
    rows, half = 400, round(400 * share / 2)
    difference = judge(gate, pair(half, half, rows - 2 * half)).smallest_difference
    assert difference is not None and (difference > 0 or gate is NOT_WORSE)
    favour = (1 + difference / share) / 2
    draw, not_worse = np.random.default_rng(1), cache(noninferiority_p_value)
    found, trials = 0, 300
    for _ in range(trials):
        discordant = draw.binomial(rows, share)
        better = draw.binomial(discordant, favour)
        worse = discordant - better
        if gate is OPEN:
            p_value = mcnemar_p_value(better, worse)
        else:
            p_value = not_worse(rows, better, worse, gate.margin)
        found += p_value <= gate.alpha
    assert found / trials == pytest.approx(gate.power, abs=0.06)


def test_the_first_model_is_champion_when_the_floors_hold() -> None:
    verdict = judge(Gate(), alone(right(90, 100), trivial=against(50)))
    assert verdict.verdict == "champion"
    assert verdict.reasons == (FIRST,)
    assert (verdict.p_value, verdict.better, verdict.worse, verdict.difference) == (None,) * 4
    assert (verdict.rows, verdict.compared_rows, verdict.left_out) == (100, 0, 0)
    assert verdict.discordant_assumed
    assert verdict.discordant_share == ASSUMED_DISCORDANT_SHARE
    assert [(one.name, one.passed) for one in verdict.rules] == [
        ("comparison", True),
        ("beats the trivial baseline", True),
    ]


def test_a_better_model_replaces_the_champion() -> None:
    verdict = judge(OPEN, pair(20, 4, both=76))
    assert verdict.verdict == "champion"
    assert verdict.reasons[0].startswith("better than the champion: of 100 rows it alone has 20 right")
    assert "≤ 0.05" in verdict.reasons[0]
    assert not verdict.discordant_assumed
    assert verdict.discordant_share == 0.24
    (only,) = verdict.rules
    assert only == Rule("comparison", "gate.policy", verdict.p_value, 0.05, True, verdict.reasons[0])


def test_a_model_that_may_be_better_by_luck_does_not() -> None:
    verdict = judge(OPEN, pair(8, 4, both=88))
    assert verdict.value > 0.95
    assert verdict.verdict == "challenger"
    assert verdict.reasons[0].startswith("not shown to be better than the champion")
    assert "> 0.05" in verdict.reasons[0]


@pytest.mark.parametrize(("gate", "better", "worse"), [(OPEN, 8, 4), (NOT_WORSE, 4, 8)])
def test_so_many_rows_would_show_the_measured_difference(gate: Gate, better: int, worse: int) -> None:
    verdict = judge(gate, pair(better, worse, both=88))
    rows = verdict.rows_to_pass
    assert rows is not None and rows > 100
    margin = gate.margin if gate is NOT_WORSE else 0.0
    seen = [detectable_share(n, 0.12, margin, gate.alpha, gate.power) for n in (rows, round(0.9 * rows))]
    assert seen[0] is not None and seen[1] is not None
    assert seen[0] <= (better - worse) / 100 < seen[1], "a tenth fewer rows would not"
    assert judge(gate, pair(20, 4, both=76)).rows_to_pass is None, "it passes"
    assert judge(OPEN, pair(4, 8, both=88)).rows_to_pass is None, "it is worse"


def test_a_chance_is_never_said_to_be_nothing() -> None:
    verdict = judge(OPEN, pair(2000, 0, both=10))
    assert "(p < 1e-300 ≤ 0.05)" in verdict.reasons[0] and (verdict.p_value or 0) > 0


def test_rows_without_any_difference_show_nothing_better() -> None:
    verdict = judge(OPEN, pair(0, 0, both=100))
    assert (verdict.verdict, verdict.p_value) == ("challenger", 1.0)


def test_not_worse_lets_an_equal_model_pass_where_better_does_not() -> None:
    evidence = pair(10, 11, both=979)
    assert judge(OPEN, evidence).verdict == "challenger"
    verdict = judge(NOT_WORSE, evidence)
    assert (verdict.verdict, verdict.policy, verdict.margin) == ("champion", "not-worse", 0.05)
    assert verdict.reasons[0].startswith(
        "worse than the champion by less than 0.05, if at all: of 1,000 rows"
    )
    assert verdict.p_value == noninferiority_p_value(1000, 10, 11, 0.05)


def test_not_worse_refuses_what_may_be_worse() -> None:
    verdict = judge(NOT_WORSE, pair(4, 8, both=88))
    assert verdict.verdict == "challenger"
    assert verdict.reasons[0].startswith("may be worse than the champion by 0.05 or more: of 100 rows")


@pytest.mark.parametrize("policy", ["better", "not-worse"])
def test_few_rows_promote_nothing(policy: str) -> None:
    gate = Gate(beat_trivial=False, policy=policy)  # type: ignore[arg-type]
    for better in range(5):
        assert judge(gate, pair(better, 0, both=4 - better)).verdict == "challenger"


@pytest.mark.parametrize("several", [False, True], ids=["single", "multi"])
@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1", "log_loss"])
@pytest.mark.parametrize("policy", ["better", "not-worse"])
def test_other_metrics_are_compared_by_the_bootstrap(metric: str, several: bool, policy: str) -> None:
    gate = Gate(beat_trivial=False, policy=policy, margin=0.05)  # type: ignore[arg-type]
    good, bad = (
        judge(gate, models(400, skill, several=several, metric=metric)) for skill in ((3, 1), (1, 3))
    )
    assert (good.verdict, bad.verdict) == ("champion", "challenger")
    assert (good.difference or 0) > 0.05 > -0.05 > (bad.difference or 0)
    title = metric.replace("_", " ").replace("f1", "F1")
    assert f"champion in {title}" in good.reasons[0] and "on 400 rows (p = 0.00025 ≤ 0.05)" in good.reasons[0]
    assert good.smallest_difference is not None


@pytest.mark.parametrize("metric", ["macro_f1", "log_loss"])
def test_the_bootstrap_takes_the_margin_under_not_worse_alone(metric: str) -> None:
    better, loose, tight = (
        judge(
            Gate(beat_trivial=False, policy=policy, margin=margin),  # type: ignore[arg-type]
            models(400, (2, 2), 1, metric=metric),
        )
        for policy, margin in (("better", 0.4), ("not-worse", 0.4), ("not-worse", 1e-6))
    )
    assert [one.verdict for one in (better, loose, tight)] == ["challenger", "champion", "challenger"]
    assert better.p_value == pytest.approx(tight.p_value, abs=1e-3)
    assert better.smallest_difference == pytest.approx((loose.smallest_difference or 0) + 0.4)


def test_multi_label_accuracy_is_the_exact_set() -> None:
    evidence = models(400, (3, 1), several=True)
    verdict = judge(OPEN, evidence)
    assert evidence.champion is not None
    better = int((evidence.candidate.right & ~evidence.champion.other.right).sum())
    assert verdict.better == better > 0
    assert verdict.value == evidence.candidate.right.mean()


@pytest.mark.parametrize("policy", ["better", "not-worse"])
def test_the_bootstrap_needs_rows_that_tell_the_two_apart(policy: str) -> None:
    gate = Gate(beat_trivial=False, policy=policy)  # type: ignore[arg-type]
    few = judge(gate, by_macro_f1(pair(FEWEST_DISCORDANT - 1, 0, both=2000)))
    assert (few.verdict, few.p_value, few.smallest_difference) == ("challenger", 1.0, None)
    assert f"of which 9 tell the two apart; {FEWEST_DISCORDANT} are needed to judge" in few.reasons[0]
    assert judge(gate, by_macro_f1(pair(FEWEST_DISCORDANT, 0, both=2000))).verdict == "champion"


def test_rows_that_the_champion_was_trained_on_are_left_out() -> None:
    fair = np.array([True] * 24 + [True] * 36 + [False] * 40)
    verdict = judge(OPEN, pair(20, 4, both=76, unseen=fair))
    assert (verdict.rows, verdict.compared_rows, verdict.left_out) == (100, 60, 40)
    assert verdict.reasons[1] == (
        "40 of 100 test rows are not compared: the champion was trained on them or on rows linked to them"
    )
    # Its memory of the rows where it is right must not save it, nor those where it is wrong bring it down.
    remembered = judge(OPEN, pair(8, 30, both=62, unseen=np.arange(100) < 8))
    assert (remembered.verdict, remembered.better, remembered.worse) == ("champion", 8, 0)


@pytest.mark.parametrize("policy", ["better", "not-worse"])
def test_a_champion_that_cannot_be_asked_stays(policy: str) -> None:
    gate = Gate(beat_trivial=False, policy=policy)  # type: ignore[arg-type]
    verdict = judge(gate, alone(right(90, 100), incomparable="it reads images"))
    assert verdict.verdict == "challenger"
    assert verdict.reasons == ("the champion cannot be compared on these rows: it reads images",)


def test_new_rows_are_compared_for_information() -> None:
    new = np.arange(100) < 22
    verdict = judge(OPEN, pair(20, 4, both=76, new=new))
    assert verdict.new_rows is not None
    assert (verdict.new_rows.rows, verdict.new_rows.better, verdict.new_rows.worse) == (22, 20, 2)
    assert verdict.reasons[1].startswith(
        "the test set changed: 22 of 100 rows are new since the champion was judged; on these it alone has "
        "20 right, the champion alone 2 (p = "
    )
    fair = judge(OPEN, pair(20, 4, both=76, new=new, unseen=np.arange(100) >= 10))
    assert fair.new_rows is not None and fair.new_rows.rows == 12
    assert "on 12 of these, where it was not trained, it alone has 10 right" in fair.reasons[2]
    unfair = judge(OPEN, pair(20, 4, both=76, new=new, unseen=~new))
    assert unfair.new_rows is None and unfair.reasons[2].endswith("since the champion was judged")
    assert judge(OPEN, pair(20, 4, both=76, new=np.zeros(100, bool))).new_rows is None


def test_the_uses_of_the_test_set_are_counted() -> None:
    verdict = judge(OPEN, pair(20, 4, both=76, test_uses=12))
    assert verdict.test_uses == 12
    assert verdict.false_promotion == pytest.approx(12 * 0.05)
    assert verdict.reasons[1].startswith("at least half of these test rows have judged 12 models: ")
    assert (
        "an equal one was promoted with a chance of at most 60% (gate.alpha for each)" in verdict.reasons[1]
    )
    not_worse = judge(NOT_WORSE, pair(20, 4, both=76, test_uses=12))
    assert "one worse by 0.05 was promoted with a chance of at most 60%" in not_worse.reasons[1]
    assert judge(OPEN, pair(20, 4, both=76, test_uses=99)).false_promotion == 1.0


def test_too_few_rows_are_told() -> None:
    assert judge(OPEN, alone(right(3, 3))).smallest_difference is None
    assert judge(OPEN, by_macro_f1(pair(1, 0, both=2))).smallest_difference is None


def test_the_bootstrap_is_seeded_and_both_models_are_drawn_together() -> None:
    evidence = models(300, (2, 2), seed=4, metric="macro_f1")
    assert evidence.champion is not None
    assert bootstrap_test(evidence.champion) == bootstrap_test(evidence.champion)
    loss = models(300, (2, 2), seed=4, metric="log_loss").candidate
    same = bootstrap_test(Pair(loss, loss), margin=0.1)
    assert (same.difference, same.standard_error, same.p_value) == (0, 0, 1)


def test_a_pair_is_drawn_once_whatever_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contest, rules and figures compare the same pairs again, and each draw of a metric may be dear."""
    log_loss, value = metrics.load("log_loss", "test"), metrics.load("log_loss", "test").value
    draws: list[int] = []
    monkeypatch.setattr(log_loss, "value", lambda sums: draws.append(sums.ndim) or value(sums))
    evidence = models(400, (3, 1), metric="log_loss")
    gate = Gate(policy="not-worse", margin=0.1)
    verdict = judge(gate, replace(evidence, trivial=evidence.champion))
    assert evidence.champion is not None
    assert compare(evidence.champion).p_value == pytest.approx(verdict.p_value, abs=1e-3)
    assert draws.count(2) == 2 * 4000 // 250  # of both models


def test_a_margin_that_no_share_can_have_is_refused() -> None:
    gate = Gate(beat_trivial=False, policy="not-worse", margin=1.5)
    with pytest.raises(
        UserError, match=r"gate\.margin: 1\.5 is no share of rows; accuracy needs one below 1"
    ):
        judge(gate, pair(20, 4, both=76))
    assert judge(gate, models(400, (2, 2), 1, metric="log_loss")).verdict == "champion"
