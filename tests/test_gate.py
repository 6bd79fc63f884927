"""The gate: equal models pass no more often than agreed, and every verdict says why."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from retrainer import metrics
from retrainer.errors import UserError
from retrainer.gate.compare import FEWEST_DISCORDANT, bootstrap_test, compare, detectable_share
from retrainer.gate.contest import ASSUMED_DISCORDANT_SHARE
from retrainer.gate.evidence import Evidence, SliceFigure
from retrainer.gate.exact import mcnemar_p_value, noninferiority_p_value
from retrainer.gate.measured import Measured, measure
from retrainer.gate.pair import Pair
from retrainer.gate.rules import Rule
from retrainer.gate.verdict import Verdict, judge
from retrainer.settings import Gate
from tests.predictions import answered

OPEN = Gate(beat_trivial=False)
NOT_WORSE = Gate(beat_trivial=False, policy="not-worse", margin=0.05)
FIRST = "the first version, so there is none to compare it with"
ACCURACY = metrics.load("accuracy", "test")


def told(correct: np.ndarray) -> Measured:
    """The accuracy of a model that has these rows right."""
    return Measured(ACCURACY, np.stack([correct, np.ones(len(correct))], axis=1).astype(float))


def alone(correct: np.ndarray, **more: Any) -> Evidence:
    """A candidate without a champion."""
    return Evidence(told(correct), "accuracy", "accuracy", **more)


def right(count: int, rows: int) -> np.ndarray:
    """The first `count` of `rows` answers are right."""
    return np.arange(rows) < count


def against(others: int) -> Pair:
    """The model that has 90 of 100 rows right, beside one that has so many right."""
    return Pair(told(right(90, 100)), told(right(others, 100)))


def pair(
    better: int,
    worse: int,
    both: int,
    unseen: np.ndarray | None = None,
    new: np.ndarray | None = None,
    **more: Any,
) -> Evidence:
    """Candidate and champion that differ on `better + worse` rows.

    bool, of all rows: `unseen` ones the champion was not trained on, `new` ones it was not tested on.
    """
    candidate = np.array([True] * better + [False] * worse + [True] * both)
    champion = np.array([False] * better + [True] * worse + [True] * both)
    on_all = Pair(told(candidate), told(champion))
    unseen = np.ones(on_all.rows, bool) if unseen is None else unseen
    new = np.zeros(on_all.rows, bool) if new is None else new
    return alone(
        candidate,
        champion=on_all.only(unseen),
        left_out=int((~unseen).sum()),
        new=int(new.sum()),
        champion_on_new=on_all.only(new & unseen) if (new & unseen).any() else None,
        **more,
    )


def rule(verdict: Verdict, name: str) -> Rule:
    (found,) = [one for one in verdict.rules if one.name == name]
    return found


@settings(deadline=None)
@given(better=st.integers(0, 300), worse=st.integers(0, 300))
def test_the_p_value_is_the_exact_binomial_one(better: int, worse: int) -> None:
    verdict = judge(OPEN, pair(better, worse, both=5))
    discordant = better + worse
    exact = binomtest(better, discordant, 0.5, alternative="greater").pvalue if discordant else 1.0
    assert verdict.p_value == pytest.approx(exact, rel=1e-9, abs=1e-300)
    assert (verdict.better, verdict.worse) == (better, worse)
    assert verdict.verdict == ("champion" if exact <= OPEN.alpha else "challenger")


@settings(deadline=None, max_examples=60)
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


@settings(deadline=None)
@given(better=st.integers(0, 200), worse=st.integers(0, 200))
def test_of_two_models_at_most_one_is_better(better: int, worse: int) -> None:
    forth, back = judge(OPEN, pair(better, worse, 5)), judge(OPEN, pair(worse, better, 5))
    assert "challenger" in (forth.verdict, back.verdict)
    assert forth.difference == pytest.approx(-(back.difference or 0))


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
        versus = compare(Pair(told(candidate), told(champion)))
        promoted += versus.p_value <= alpha  # the rule, as the test above shows
    # Three standard deviations above the agreed rate would be a broken test, not bad luck.
    assert promoted / trials <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / trials)


@pytest.mark.parametrize(("gate", "share"), [(OPEN, 0.2), (NOT_WORSE, 0.1)])
def test_the_smallest_difference_is_found_as_often_as_promised(gate: Gate, share: float) -> None:
    rows, half = 400, round(400 * share / 2)
    difference = judge(gate, pair(half, half, rows - 2 * half)).smallest_difference
    assert difference is not None and (difference > 0 or gate is NOT_WORSE)
    favour = (1 + difference / share) / 2
    draw = np.random.default_rng(1)
    found, trials = 0, 600
    for _ in range(trials):
        discordant = draw.binomial(rows, share)
        better = draw.binomial(discordant, favour)
        worse = discordant - better
        if gate is OPEN:
            p_value = mcnemar_p_value(better, worse)
        else:
            p_value = noninferiority_p_value(rows, better, worse, gate.margin)
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


def models(
    rows: int, skill: tuple[float, float], seed: int = 0, several: bool = False, metric: str = "accuracy"
) -> Evidence:
    """Two models of three classes, noisy in their own ways."""
    draw = np.random.default_rng(seed)
    names = ("a", "b", "c")
    truth = draw.integers(0, 3, rows)
    logits = draw.normal(size=(2, rows, 3))
    logits[:, np.arange(rows), truth] += np.array(skill)[:, None]
    shares = 1 / (1 + np.exp(-logits)) if several else np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    tables = [answered(one, names, [[names[n]] for n in truth], several) for one in shares]
    first, second = (measure(metrics.load(metric, "test"), metric, *one) for one in tables)
    title = metrics.load(metric, "test").TITLE
    return Evidence(first, metric, title, metric == "accuracy", champion=Pair(first, second))


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
    assert good == judge(gate, models(400, (3, 1), several=several, metric=metric))


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


def by_macro_f1(evidence: Evidence) -> Evidence:
    """The same models by another metric: rows of one class that are answered `no` or `yes`."""
    assert evidence.champion is not None
    macro_f1, sides = metrics.load("macro_f1", "test"), evidence.champion
    tables = [
        answered(np.where(one.right[:, None], [0.1, 0.9], [0.9, 0.1]), ("no", "yes"), [["yes"]] * one.rows)
        for one in (sides.candidate, sides.other)
    ]
    first, second = (measure(macro_f1, "macro_f1", *one) for one in tables)
    return replace(
        evidence, candidate=first, metric="macro_f1", title="macro F1", champion=Pair(first, second)
    )


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


def test_the_champion_stays_champion_whatever_the_floors_say() -> None:
    evidence = alone(right(90, 100), trivial=against(50), is_champion=True)
    verdict = judge(Gate(min_value=0.99), evidence)
    assert verdict.verdict == "champion"
    assert verdict.reasons[-1].startswith("no new data came: ")
    assert not rule(verdict, "metric").passed


REGIONS = (
    SliceFigure("region", "north", 60, 0.95, 0.9, 1.0),
    SliceFigure("region", "south", 30, 0.80, 0.6, 0.9),
    SliceFigure("region", "east", 29, 0.10, 0.0, 0.3),
)
# A bound that the evidence below meets, one that it does not, the rule's name, the reason of its refusal.
RULES = [
    ("min_value", 0.9, 0.95, "metric", r"accuracy 0\.9000 is below gate\.min_value = 0\.95"),
    (
        "slice_floors", {"region": 0.8}, {"region": 0.81}, "region = south",
        r"accuracy on the 30 rows with region = south 0\.8000 is below gate\.slice_floors\.region = 0\.81",
    ),
    (
        "max_calibration_error", 0.05, 0.04, "calibration error",
        r"calibration error 0\.0500 is above gate\.max_calibration_error = 0\.04",
    ),
    ("max_latency_ms", 20, 19, "latency", r"latency 20 ms a row is above gate\.max_latency_ms = 19"),
    ("max_model_mb", 7.5, 7.4, "model size", r"model size 7\.5 MB is above gate\.max_model_mb = 7\.4"),
]  # fmt: skip
MEASURED = alone(right(90, 100), slices=REGIONS, calibration_error=0.05, latency_ms=20.0, model_mb=7.5)


@pytest.mark.parametrize(("setting", "met", "unmet", "name", "reason"), RULES)
def test_every_rule_passes_at_its_bound_and_refuses_beyond(
    setting: str, met: Any, unmet: Any, name: str, reason: str
) -> None:
    passing = judge(Gate(beat_trivial=False, **{setting: met}), MEASURED)
    assert passing.verdict == "champion" and passing.reasons == (FIRST,)
    assert rule(passing, name).passed
    refused = judge(Gate(beat_trivial=False, **{setting: unmet}), MEASURED)
    assert refused.verdict == "challenger"
    found = rule(refused, name)
    assert (
        not found.passed and re.fullmatch(reason, found.note) and found.setting.startswith(f"gate.{setting}")
    )
    assert refused.reasons == (found.note, FIRST)
    assert found.bound == (unmet if isinstance(unmet, float | int) else unmet["region"])


def test_a_better_model_that_misses_a_floor_is_refused() -> None:
    verdict = judge(Gate(beat_trivial=False, min_value=0.97), pair(20, 4, both=76))
    assert verdict.verdict == "challenger" and rule(verdict, "comparison").passed


def test_a_rule_that_is_off_leaves_no_entry() -> None:
    assert [one.name for one in judge(OPEN, MEASURED).rules] == ["comparison"]


def test_every_large_value_of_a_slice_is_judged_and_a_small_one_is_not() -> None:
    verdict = judge(Gate(beat_trivial=False, slice_floors={"region": 0.5}), MEASURED)
    judged = [one for one in verdict.rules if one.setting == "gate.slice_floors.region"]
    assert [(one.name, one.value) for one in judged] == [("region = north", 0.95), ("region = south", 0.8)]
    small = judge(Gate(beat_trivial=False, slice_floors={"region": 0.99}, slice_rows=61), MEASURED)
    assert small.verdict == "champion"
    assert rule(small, "region").note == "no value of region has gate.slice_rows = 61 rows, so none is judged"


@pytest.mark.parametrize(
    ("name", "setting"), [("beats the trivial baseline", "trivial"), ("beats the baseline", "baseline")]
)
def test_a_model_must_beat_what_costs_nothing(name: str, setting: str) -> None:
    gate = Gate(**{"beat_trivial": False, f"beat_{setting}": True})  # type: ignore[arg-type]
    for rights, passed in ((70, True), (88, False)):
        verdict = judge(gate, replace(MEASURED, **{setting: against(rights)}))
        found = rule(verdict, name)
        assert (found.passed, verdict.verdict == "champion") == (passed, passed)
        assert found.value == compare(against(rights)).p_value
    assert re.search(rf"not shown to beat .*p = 0\.25 > 0\.05; gate\.beat_{setting}\)", verdict.reasons[0])


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"beat_baseline": True}, r"gate\.beat_baseline needs .* set evaluation\.baseline: true"),
        ({"max_latency_ms": 5}, r"gate\.max_latency_ms needs the latency, which was not measured"),
        ({"slice_floors": {"size": 0.5}}, r"gate\.slice_floors names 'size', .*the slices are region;"),
    ],
)
def test_a_rule_without_its_figures_says_what_to_set(gate: dict[str, Any], message: str) -> None:
    evidence = replace(MEASURED, latency_ms=None)
    with pytest.raises(UserError, match=message):
        judge(Gate(**{"beat_trivial": False, **gate}), evidence)


def test_a_floor_of_a_slice_where_there_are_none_says_so() -> None:
    with pytest.raises(
        UserError, match=r"names 'size', which is no slice, there are none; see evaluation\.s"
    ):
        judge(Gate(slice_floors={"size": 0.5}, beat_trivial=False), alone(right(9, 10)))


def test_too_few_rows_are_told() -> None:
    assert judge(OPEN, alone(right(3, 3))).smallest_difference is None
    assert judge(OPEN, by_macro_f1(pair(1, 0, both=2))).smallest_difference is None


def test_a_verdict_is_plain_data() -> None:
    import json

    gate = Gate(beat_trivial=False, min_value=0.5, slice_floors={"region": 0.5})
    verdict = judge(gate, replace(pair(20, 4, both=76, new=np.arange(100) < 22), slices=REGIONS))
    assert json.loads(json.dumps(asdict(verdict)))["rules"][1]["name"] == "metric"


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


def test_where_less_is_better_a_floor_is_a_ceiling_and_the_baselines_go_by_the_same_metric() -> None:
    evidence = models(400, (3, 1), metric="log_loss")
    loss, weak = evidence.candidate.value, evidence.champion
    assert weak is not None
    figures = (
        SliceFigure("region", "north", 60, loss + 0.1, 0, 9),
        SliceFigure("region", "south", 60, 0.01, 0, 9),
    )
    gate = Gate(min_value=loss + 0.05, slice_floors={"region": loss + 0.05}, beat_baseline=True)
    itself = Pair(evidence.candidate, evidence.candidate)
    verdict = judge(gate, replace(evidence, slices=figures, trivial=weak, baseline=itself))
    outcomes = {one.name: one.passed for one in verdict.rules}
    assert outcomes == {
        "comparison": True, "metric": True, "beats the trivial baseline": True, "beats the baseline": False,
        "region = north": False, "region = south": True,
    }  # fmt: skip
    north = rule(verdict, "region = north").note
    assert re.fullmatch(
        r"log loss on the 60 rows with region = north .* is above gate\.slice_floors\.region = .*", north
    )
    assert "beats the trivial baseline (+0." in rule(verdict, "beats the trivial baseline").note
    assert "in log loss, p = " in rule(verdict, "beats the baseline").note
    assert judge(Gate(beat_trivial=False, min_value=loss - 0.05), evidence).verdict == "challenger"


@settings(deadline=None, max_examples=40)
@given(
    bounds=st.tuples(st.floats(0, 2), st.floats(0, 2)).map(sorted),
    metric=st.sampled_from(["accuracy", "log_loss"]),
)
def test_a_stricter_floor_never_lets_a_model_pass_that_a_laxer_one_refused(
    bounds: list[float], metric: str
) -> None:
    evidence = MONOTONE[metric]
    lax, strict = bounds if metric == "accuracy" else bounds[::-1]
    passed = [
        judge(Gate(beat_trivial=False, min_value=bound), evidence).verdict == "champion"
        for bound in (lax, strict)
    ]
    assert passed[0] or not passed[1]


MONOTONE = {
    name: replace(models(50, (2, 2), metric=name), champion=None) for name in ("accuracy", "log_loss")
}


def test_a_margin_that_no_share_can_have_is_refused() -> None:
    gate = Gate(beat_trivial=False, policy="not-worse", margin=1.5)
    with pytest.raises(
        UserError, match=r"gate\.margin: 1\.5 is no share of rows; accuracy needs one below 1"
    ):
        judge(gate, pair(20, 4, both=76))
    assert judge(gate, models(400, (2, 2), 1, metric="log_loss")).verdict == "champion"
