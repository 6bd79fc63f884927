"""BLEU and chrF beside sacrebleu's own, and a paired bootstrap beside sacrebleu's."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from retrainer.gate.compare import compare
from retrainer.gate.measured import measure
from retrainer.gate.pair import Pair
from retrainer.metrics import bleu, chrf

WORDS = [
    "the", "a", "man", "woman", "dog", "runs", ",", "sits", "on",
    "green", "grass", "with", "two", "red", "hats", ".", "Straße", "schöne",
]  # fmt: skip
LIBRARY = {"bleu": (bleu, BLEU(force=True)), "chrf": (chrf, CHRF())}


def sentences(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 14))) for _ in range(count)]


def damaged(texts: list[str], share: float, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(w if draw.random() > share else draw.choice(WORDS) for w in t.split()) for t in texts]


def score(metric: object, hypotheses: list[str], references: list[str]) -> float:
    predictions, truth = pa.table({"prediction": hypotheses}), pa.table({"target_text": references})
    return float(metric.value(metric.statistics(predictions, truth).sum(axis=0)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("count", [1, 2, 200])
def test_a_corpus_scores_as_in_sacrebleu(name: str, share: float, count: int) -> None:
    ours, theirs = LIBRARY[name]
    references = sentences(count, seed=count)
    hypotheses = damaged(references, share, seed=2)
    expected = min(100.0, theirs.corpus_score(hypotheses, [references]).score)
    assert score(ours, hypotheses, references) == pytest.approx(expected, rel=1e-14, abs=0)


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize(
    ("hypothesis", "reference"),
    [
        ("", "a man"),
        ("a man", ""),
        ("", ""),
        ("a", "a"),
        ("short", "a much longer reference of many words"),
        ("Ein Mann , der läuft .", "Ein Mann, der läuft."),
        ("a b c d", "e f g h"),
        ("the the the the the", "the cat"),
    ],
)
def test_odd_texts_score_as_in_sacrebleu(name: str, hypothesis: str, reference: str) -> None:
    ours, theirs = LIBRARY[name]
    expected = theirs.corpus_score([hypothesis, "a man runs"], [[reference, "a man sits"]]).score
    assert score(ours, [hypothesis, "a man runs"], [reference, "a man sits"]) == pytest.approx(
        expected, rel=1e-14
    )


@pytest.mark.parametrize("name", LIBRARY)
def test_values_of_many_sums_at_once_are_those_one_by_one(name: str) -> None:
    ours, _ = LIBRARY[name]
    references = sentences(50, seed=3)
    truth = pa.table({"target_text": references})
    rows = ours.statistics(pa.table({"prediction": damaged(references, 0.3, seed=4)}), truth)
    sums = np.stack([rows.sum(axis=0), rows[:10].sum(axis=0), 0 * rows[0]]).reshape(1, 3, -1)
    values = ours.value(sums)
    assert values.shape == (1, 3) and values[0, 2] == 0
    assert values[0, 0] == ours.value(rows.sum(axis=0)) and values[0, 1] == ours.value(rows[:10].sum(axis=0))


@pytest.mark.parametrize("name", LIBRARY)
def test_no_rows_have_no_statistics_and_a_missing_text_is_empty(name: str) -> None:
    ours, _ = LIBRARY[name]
    texts = pa.array([None, "a man"], pa.string())
    missing = ours.statistics(pa.table({"prediction": texts}), pa.table({"target_text": ["a man", "a man"]}))
    empty = ours.statistics(
        pa.table({"prediction": ["", "a man"]}), pa.table({"target_text": ["a man", "a man"]})
    )
    np.testing.assert_array_equal(missing, empty)
    none = ours.statistics(pa.table({"prediction": texts[:0]}), pa.table({"target_text": texts[:0]}))
    assert none.shape == (0, missing.shape[1])


def sacrebleus_p_value(name: str, better: list[str], worse: list[str], references: list[str]) -> float:
    """Of `sacrebleu --paired-bs`, with 2,000 resamples."""
    systems: list[tuple[str, Sequence[str]]] = [("worse", worse), ("better", better)]
    _, found = PairedTest(systems, {name: LIBRARY[name][1]}, [references], "bs", n_samples=2000)()
    result = next(results for key, results in found.items() if key != "System")[1]
    return float(result.p_value)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize(("share", "low", "high"), [(0.305, 0.02, 0.6), (0.45, 0.0, 0.005)])
def test_the_gate_promotes_at_the_p_value_of_sacrebleus_paired_bootstrap(
    name: str, share: float, low: float, high: float
) -> None:
    """Both ask how often a resampled difference deviates from its mean by the observed one."""
    references = sentences(300, seed=5)
    better, worse = damaged(references, 0.30, seed=6), damaged(references, share, seed=7)
    expected = sacrebleus_p_value(name, better, worse, references)
    truth = pa.table({"target_text": references})
    ours = LIBRARY[name][0]
    pair = Pair(*(measure(ours, name, pa.table({"prediction": texts}), truth) for texts in (better, worse)))
    assert low <= expected <= high
    assert compare(pair).p_value == pytest.approx(expected, abs=0.03)
