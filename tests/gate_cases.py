"""What the tests of the gate judge: candidates, champions, and the rows that the two have right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from retrainer import metrics
from retrainer.gate.evidence import Evidence
from retrainer.gate.measured import Measured, measure
from retrainer.gate.pair import Pair
from retrainer.gate.rules import Rule
from retrainer.gate.verdict import Verdict
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
