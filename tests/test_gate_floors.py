"""The gate's rules beside the comparison: floors, ceilings and baselines, each met at its bound."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrainer.errors import UserError
from retrainer.gate.compare import compare
from retrainer.gate.evidence import SliceFigure
from retrainer.gate.pair import Pair
from retrainer.gate.verdict import judge
from retrainer.settings import Gate
from tests.gate_cases import (
    FIRST,
    OPEN,
    against,
    alone,
    models,
    pair,
    right,
    rule,
)


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


def test_a_verdict_is_plain_data() -> None:
    import json

    gate = Gate(beat_trivial=False, min_value=0.5, slice_floors={"region": 0.5})
    verdict = judge(gate, replace(pair(20, 4, both=76, new=np.arange(100) < 22), slices=REGIONS))
    assert json.loads(json.dumps(asdict(verdict)))["rules"][1]["name"] == "metric"


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
