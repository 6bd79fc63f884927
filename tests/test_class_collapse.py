"""Classes and slices beside the champion: one that collapses, appears or vanishes holds the model by name."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from retrainer import metrics
from retrainer.evaluation.model_card import model_card
from retrainer.evaluation.opponents import Opponent
from retrainer.evaluation.parts import parts_of
from retrainer.evaluation.report import render
from retrainer.evaluation.summary import closing_table
from retrainer.gate.corrected import PValue, corrected
from retrainer.gate.evidence import Evidence, Part
from retrainer.gate.measured import Measured
from retrainer.gate.pair import Pair
from retrainer.gate.scores import scores_of
from retrainer.gate.verdict import Verdict, judge
from retrainer.notify.event import rules_of
from retrainer.registry.judgement_tags import judgement_tags
from retrainer.settings import Gate
from tests.html_page import Page
from tests.predictions import Tables, answered
from tests.reports import HISTORY, judged_of, report_of, with_texts

ACCURACY = metrics.load("accuracy", "test")
NAMES = ("arrival", "balance", "refund")


def share(rights: np.ndarray) -> Measured:
    return Measured(ACCURACY, np.stack([rights, np.ones(len(rights))], axis=1).astype(float))


def part(name: str, won: int, lost: int, rows: int, by: str = "class", both: int | None = None) -> Part:
    """Of `rows` rows the candidate alone has `won` right, the champion alone `lost`, both all others."""
    mine = np.array([True] * won + [False] * lost + [True] * (rows - won - lost))
    its = np.array([False] * won + [True] * lost + [True] * (rows - won - lost))
    if both is not None:
        mine[won + lost + both :] = its[won + lost + both :] = False
    return Part(by, name, "recall" if by == "class" else "accuracy", rows, Pair(share(mine), share(its)))


def evidence(*parts: Part, **more: Any) -> Evidence:
    """A candidate that is better than the champion as a whole."""
    won = np.arange(400) < 40
    whole = Pair(share(won | (np.arange(400) >= 60)), share(~won & (np.arange(400) >= 60)))
    return Evidence(whole.candidate, "accuracy", "accuracy", champion=whole, parts=parts, **more)


def judged(*parts: Part, more: dict[str, Any] | None = None, **gate: Any) -> Verdict:
    return judge(Gate(**{"beat_trivial": False, **gate}), evidence(*parts, **(more or {})))


# --- the correction -----------------------------------------------------------------------------------------


def holm(values: list[float]) -> list[float]:
    """As Holm (1979) writes it, and R's p.adjust."""
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate([values[n] * (len(values) - i) for i, n in enumerate(order)])
    found = np.empty(len(values))
    found[order] = np.minimum(steps, 1)
    return found.tolist()


def mcnemar(worse: int, discordant: int) -> float:
    return float(binomtest(worse, discordant, 0.5, alternative="greater").pvalue)


def test_of_any_p_values_the_correction_is_holms() -> None:
    values = [0.03, 0.001, 0.2, 0.009, 0.9, 0.001]
    assert corrected([PValue(p) for p in values]) == pytest.approx(holm(values))
    assert corrected([]) == [] and corrected([PValue(0.04)]) == [0.04]


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("discordant", [(4, 6, 5), (1, 1, 9), (7, 7, 7), (0, 8, 2)])
def test_of_equal_models_some_class_is_refused_at_most_so_often(
    discordant: tuple[int, ...], alpha: float
) -> None:
    """Over every way in which the discordant rows can fall, each as likely as another."""
    chance = power = 0.0
    for worse in itertools.product(*(range(n + 1) for n in discordant)):
        weight = np.prod(binom.pmf(worse, discordant, 0.5))
        values = [mcnemar(w, n) if n else 1.0 for w, n in zip(worse, discordant, strict=True)]
        mine = corrected([PValue(p, n) for p, n in zip(values, discordant, strict=True)])
        assert all(a <= b + 1e-12 for a, b in zip(mine, holm(values), strict=True)), "weaker than Holm's"
        assert all(a >= p - 1e-12 for a, p in zip(mine, values, strict=True))
        chance += weight * (min(mine) <= alpha)
        power += weight * (min(holm(values)) <= alpha)
    assert power <= chance <= alpha + 1e-12


def test_a_class_that_cannot_err_costs_the_others_nothing() -> None:
    many = [PValue(1.0, 2) for _ in range(76)]
    assert corrected([PValue(mcnemar(9, 9), 9), *many])[0] == pytest.approx(mcnemar(9, 9))


# --- the rule -----------------------------------------------------------------------------------------------


def test_a_class_that_dies_while_the_average_rises_holds_the_model() -> None:
    """Recall 0.95 to 0.10, the whole 10 points better: McNemar alone promotes it."""
    dying = part("refund", 0, 34, 40, both=4)
    verdict = judged(dying, *(part(name, 6, 1, 40) for name in ("arrival", "balance")))
    assert verdict.verdict == "challenger"
    assert verdict.rules[0].passed, "as a whole it is better"
    assert verdict.reasons[0].startswith(
        "class 'refund' collapses: recall 0.100, the champion has 0.950 (40 rows, p = "
    )
    assert verdict.reasons[0].endswith("(gate.max_drop = 0.2); accept it by gate.accept_classes: [refund]")
    assert [one.name for one in verdict.parts if one.collapsed] == ["refund"]
    assert (
        judged(dying, max_drop=0.0).verdict == "champion"
        and judged(dying, max_drop=0.9).verdict == "champion"
    )


def test_what_is_accepted_holds_nothing_and_is_told() -> None:
    verdict = judged(part("refund", 0, 34, 40), accept_classes=("refund", "arrival"))
    assert verdict.verdict == "champion"
    (rule,) = [one for one in verdict.rules if one.name == "collapse"]
    assert rule.passed and rule.note.endswith(
        "'refund' collapses, accepted by gate.accept_classes or gate.accept_slices"
    )
    assert verdict.needless == ("class = arrival",)


@pytest.mark.parametrize(
    ("won", "lost", "rows", "why"),
    [
        (1, 5, 20, "chance explains it"),
        (10, 60, 1000, "5 points are no collapse"),
        (40, 2, 100, "it is better"),
    ],
)
def test_what_is_no_collapse_holds_nothing(won: int, lost: int, rows: int, why: str) -> None:
    verdict = judged(part("refund", won, lost, rows), part("balance", 0, 0, 40))
    assert verdict.verdict == "champion", why
    (rule,) = [one for one in verdict.rules if one.name == "collapse"]
    assert rule.passed and rule.note.startswith(
        "of 2 classes and slices none falls by more than gate.max_drop = 0.2"
    )


def test_many_tests_need_a_larger_fall() -> None:
    falling = part("refund", 0, 6, 20)
    assert judged(falling).verdict == "challenger"
    others = [part(str(n), 6, 6, 40) for n in range(76)]
    assert judged(falling, *others).verdict == "champion"


def test_a_slice_that_collapses_is_named_with_its_own_setting() -> None:
    south = part("far south", 0, 30, 60, by="region")
    verdict = judged(south, part("refund", 0, 30, 60))
    assert "region = far south collapses: accuracy 0.500, the champion has 1.000" in verdict.reasons[0]
    assert verdict.reasons[0].endswith(
        'accept it by gate.accept_classes: [refund] and gate.accept_slices: {region: ["far south"]}'
    )
    accepted = judged(south, accept_slices={"region": ["far south", "north"]})
    assert accepted.verdict == "champion" and accepted.needless == ("region = north",)


def test_of_another_figure_than_a_share_a_part_of_it_counts() -> None:
    """Where less is better, too: an error that grows by half."""
    error = metrics.load("mean_absolute_error", "test")
    draw = np.random.default_rng(0)
    its = np.stack([draw.random(80), np.ones(80)], axis=1)
    for factor, held in ((1.5, True), (1.05, False), (0.5, False)):
        mine = its * np.array([factor, 1.0])
        pair = Pair(Measured(error, mine), Measured(error, its))
        verdict = judged(Part("region", "south", "mean absolute error", 80, pair))
        assert (verdict.verdict == "challenger") == held, factor


def test_classes_that_appear_or_vanish_hold_the_model() -> None:
    more = {"appeared": ("fees",), "vanished": ("refund", "top up")}
    verdict = judged(more=more)
    assert verdict.verdict == "challenger"
    assert verdict.reasons[0] == (
        "beside the champion's classes, class 'fees' appears and class 'refund', 'top up' vanishes; accept it"
        ' by gate.accept_classes: [fees, refund, "top up"]'
    )
    some = judged(more=more, accept_classes=("fees", "top up"))
    assert some.reasons[0].endswith("class 'refund' vanishes; accept it by gate.accept_classes: [refund]")
    every = judged(more=more, accept_classes=("fees", "refund", "top up"))
    assert every.verdict == "champion" and every.needless == ()


def test_forty_classes_that_collapse_are_a_short_sentence() -> None:
    verdict = judged(*(part(f"c{n}", 0, 38, 40) for n in range(40)))
    assert "; and 37 more (gate.max_drop" in verdict.reasons[0] and len(verdict.reasons[0]) < 900
    assert verdict.reasons[0].endswith(f"gate.accept_classes: [{', '.join(f'c{n}' for n in range(40))}]")


def test_names_that_yaml_would_not_read_as_text_are_quoted() -> None:
    import yaml

    for names in (["7", "no", "a, b"], ["it's", "Null", "plain"], ["1e3", "ä", "x-1"]):
        line = judged(more={"appeared": tuple(names)}).reasons[0].rpartition("accept it by ")[2]
        assert yaml.safe_load(line)["gate.accept_classes"] == names


def test_classes_with_too_few_rows_are_counted() -> None:
    """Of 20 classes that differ on 11 rows each, one that loses 8 is found, and one that loses 7 is not."""
    others = [part(f"other {n}", 6, 5, 40) for n in range(19)]
    for rows, found in ((7, False), (8, True)):
        before, after = (judged(part("small", 0, lost, rows), *others) for lost in (0, rows))
        assert before.parts[0].too_few == (not found) and not any(one.too_few for one in before.parts[1:])
        assert (after.verdict == "challenger") == found


def test_many_classes_of_few_boxes_are_counted_by_the_draws_of_the_bootstrap() -> None:
    """No p-value of 4,000 draws is small enough for 300 such tests together."""
    error = metrics.load("mean_absolute_error", "test")
    sums = np.stack([np.random.default_rng(0).random(12), np.ones(12)], axis=1)
    pair = Pair(Measured(error, sums * [1.1, 1]), Measured(error, sums))
    for count in (150, 300):
        verdict = judged(*(Part("region", f"r{n}", "error", 12, pair) for n in range(count)))
        assert sum(one.too_few for one in verdict.parts) == (0 if count == 150 else count)


# --- from predictions to what people read -------------------------------------------------------------------


def tables(rights: tuple[int, int, int], names: tuple[str, ...] = NAMES, rows: int = 40) -> Tables:
    """Of `rows` rows of each of three classes so many are right; the others get the next class."""
    truth = np.repeat(np.arange(3), rows)
    right = np.concatenate([np.arange(rows) < count for count in rights])
    given = np.where(right, truth, (truth + 1) % 3)
    shares = np.full((len(truth), len(names)), 0.05)
    shares[np.arange(len(truth)), given] = 0.9
    return with_texts(answered(shares, names, [[NAMES[n]] for n in truth]))


def test_a_collapse_reaches_the_table_the_page_the_card_the_tags_and_the_webhook() -> None:
    champion = tables((30, 20, 38))
    report = report_of(tables((40, 40, 4)), champion=champion[0], beat_trivial=False)
    assert report["gate"]["verdict"] == "challenger"
    assert report["metrics"]["accuracy"]["value"] < report["champion"]["metrics"]["accuracy"]["value"] + 0.1
    named = "class 'refund' collapses: recall 0.100, the champion has 0.950"
    table = " ".join(closing_table(report, {}, Path("report.html")).split())
    page, card = Page(render(report, HISTORY)).text, model_card(report)
    for text in (table, page, card.replace("\\", "")):
        assert named in text and "gate.accept_classes: [refund]" in text
    assert "Classes and slices beside the champion" in page and "collapses" in page
    tags = judgement_tags(report)
    assert tags["gate.rule.collapse"] == "fails: 1, bound 0"
    assert any(one.rule == "classes and slices that collapse" and not one.passed for one in rules_of(tags))


def test_recall_by_class_is_that_of_the_report_and_of_scikit_learn() -> None:
    from sklearn.metrics import recall_score

    mine = tables((40, 31, 4))
    report = report_of(mine, champion=tables((30, 20, 38))[0], beat_trivial=False)
    truth = [names[0] for names in mine[1]["labels"].to_pylist()]
    expected = recall_score(truth, mine[0]["label"].to_pylist(), average=None, labels=NAMES)
    assert [one["candidate"] for one in report["gate"]["parts"]] == pytest.approx(expected, abs=1e-6)
    recalls = {one["label"]: one["recall"] for one in report["details"]["per_class"]}
    assert {one["name"]: one["candidate"] for one in report["gate"]["parts"]} == recalls


def test_few_rows_are_told_in_the_table_and_the_card() -> None:
    mine = tables((3, 3, 3), rows=5)
    report = report_of(mine, champion=mine[0], beat_trivial=False)
    said = "3 classes and slices have too few test rows to see a collapse, even a whole one."
    assert said in " ".join(closing_table(report, {}, Path("report.html")).split())
    assert said in model_card(report)


def test_a_class_that_only_one_of_the_two_knows_is_named_not_tested() -> None:
    mine, its = tables((40, 40, 40)), tables((40, 40, 0), (*NAMES[:2], "fees"))
    report = report_of(mine, champion=its[0], beat_trivial=False)
    assert report["gate"]["appeared"] == ["refund"] and report["gate"]["vanished"] == ["fees"]
    assert [one["name"] for one in report["gate"]["parts"]] == ["arrival", "balance"]
    assert "'refund' appears and class 'fees' vanishes" in report["gate"]["reasons"][0]


def test_only_compared_rows_count() -> None:
    """Rows that the champion was trained on are left out, by class and by slice."""
    mine, its = tables((40, 40, 4)), tables((30, 20, 38))
    told = judged_of(mine)
    task = told.predictor.task
    scores = scores_of(task, "")
    both = task.comparable(mine[0], its[0])
    opponent = Opponent(scores.pairs(*both, told.test), "", NAMES, both)
    unseen = np.ones(120, bool)
    unseen[84:] = False  # of the last class the rows that both have right stay
    slices = {"half": {"first": np.arange(60), "second": np.arange(60, 120)}, "class": {"x": np.arange(5)}}
    parts = parts_of(told, opponent, unseen, slices, scores).parts
    assert [(one.by, one.name, one.rows) for one in parts] == [
        ("class", "arrival", 40), ("class", "balance", 40), ("class", "refund", 4),
        ("half", "first", 60), ("half", "second", 24),
    ]  # fmt: skip
    assert parts[2].pair.gain == 0
    unseen[80:] = False
    assert parts_of(told, opponent, unseen, slices, scores).untested == 1
