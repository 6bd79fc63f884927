"""The two-sample tests against scipy's statistics, and that their level is what they say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from retrainer.retraining import two_sample
from retrainer.retraining.two_sample import adjusted, compare_inputs, compare_labels

DRAW = np.random.default_rng(7)
ONE = DRAW.normal(size=(40, 3)).round(1)  # rounded, so that there are ties
OTHER = DRAW.normal(0.3, 1.2, size=(25, 3)).round(1)


def seen() -> np.ndarray:
    return two_sample._divisions(len(ONE), len(OTHER))


def test_kolmogorov_smirnov_is_scipys() -> None:
    found = two_sample._kolmogorov_smirnov(np.concatenate([ONE, OTHER]), seen())[0]
    wanted = [stats.ks_2samp(ONE[:, at], OTHER[:, at]).statistic for at in range(3)]
    assert found == pytest.approx(wanted, abs=1e-6)


def test_energy_distance_is_scipys_squared() -> None:
    both = np.concatenate([ONE, OTHER])[:, :1].astype(np.float32)
    found = two_sample._energy(both, seen())[0]
    assert found == pytest.approx(stats.energy_distance(ONE[:, 0], OTHER[:, 0]) ** 2, rel=1e-4)


def test_one_label_is_tested_as_scipys_hypergeometric_says() -> None:
    total, rows = np.array([30, 7, 3]), 16
    counts = np.array([[12, 1, 3], [16, 0, 0]])
    found = two_sample._each_label(counts, total, rows)
    for division, row in enumerate(counts):
        for label, count in enumerate(row):
            law = stats.hypergeom(total.sum(), total[label], rows)
            wanted = min(1.0, 2 * min(law.cdf(count), law.sf(count - 1)))
            assert found[division, label] == pytest.approx(wanted)


def test_all_labels_are_tested_by_scipys_likelihood_ratio() -> None:
    new, before = np.array([12, 1, 3]), np.array([18, 6, 1])
    found = two_sample._g(new[None], new + before)[0]
    wanted = stats.chi2_contingency([new, before], correction=False, lambda_="log-likelihood").statistic
    assert found == pytest.approx(wanted)


def test_the_least_of_several_p_values_is_counted_as_such() -> None:
    values = np.random.default_rng(0).normal(size=(2, 1000))
    values[:, 0] = np.sort(values, axis=1)[:, -20]  # each among its twenty largest
    found = two_sample._together({"a": values[0], "b": values[1]}, [])
    assert found.parts == {"a": pytest.approx(0.02, abs=0.002), "b": pytest.approx(0.02, abs=0.002)}
    assert 0.03 < found.p_value < 0.045, "one of two is so small nearly twice as often"


def test_holms_p_values() -> None:
    assert adjusted({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert adjusted({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def test_equal_labels_drift_as_seldom_as_alpha_says() -> None:
    """400 draws of one distribution with labels frequent and rare: at most 5%, and not far below."""
    draw = np.random.default_rng(1)
    shares = 0.7 ** np.arange(20)
    found = 0
    for _ in range(400):
        before, new = (draw.multinomial(rows, shares / shares.sum()) for rows in (900, 120))
        sides = ({str(label): int(n) for label, n in enumerate(one) if n} for one in (before, new))
        found += compare_labels(*sides).p_value <= 0.05
    assert 10 <= found <= 29  # 20 ± 2.2 standard errors, and rare labels make it a little less


def test_equal_inputs_drift_as_seldom_as_alpha_says() -> None:
    draw = np.random.default_rng(2)
    found = 0
    for _ in range(150):
        before, new = (
            (draw.exponential(size=(rows, 4)), draw.normal(size=(rows, 6)).astype(np.float32))
            for rows in (60, 30)
        )
        found += compare_inputs(("a", "b", "c", "d"), before, new).p_value <= 0.05
    assert found <= 14  # 7.5 expected, standard error 2.7


def test_vanished_and_new_labels_are_found_and_named() -> None:
    before = {f"intent {n}": 100 for n in range(77)}
    lacking = {label: 13 for label in before if label != "intent 5"}
    gone = compare_labels(before, lacking)
    assert gone.p_value <= 0.01 and gone.largest[0]["label"] == "intent 5"
    arrived = compare_labels(before, {"intent 1": 13, "intent 2": 14, "unheard of": 6})
    assert arrived.p_value <= 0.01
    found = {one["label"]: one["found"] for one in arrived.largest}
    assert found["unheard of"] == 6
    assert compare_labels(before, dict.fromkeys(before, 13)).p_value > 0.5


def test_many_small_changes_are_found_by_all_labels_together() -> None:
    before = {str(label): 200 for label in range(40)}
    new = {str(label): 30 + (9 if label % 2 else -9) for label in range(40)}
    found = compare_labels(before, new)
    assert found.p_value <= 0.002 and found.parts["all labels"] <= found.parts["one label"]


def test_a_shift_of_one_measure_is_found_and_named() -> None:
    draw = np.random.default_rng(3)
    before = (draw.normal(size=(400, 3)), draw.normal(size=(400, 8)).astype(np.float32))
    new = (draw.normal((0, 0.6, 0), size=(200, 3)), draw.normal(size=(200, 8)).astype(np.float32))
    found = compare_inputs(("width", "light", "colour"), before, new)
    assert found.p_value <= 0.01 and found.parts["one measure"] <= 0.01 < found.parts["embedding"]
    assert found.largest[0]["measure"] == "light"


def test_a_turned_embedding_is_found_though_no_dimension_moves() -> None:
    """Equal margins, another correlation: only the distance of whole points sees it."""
    draw = np.random.default_rng(4)
    apart, together = draw.normal(size=(500, 2)), np.repeat(draw.normal(size=(500, 1)), 2, axis=1)
    sides = [(np.zeros((500, 0)), one.astype(np.float32)) for one in (apart, together)]
    assert compare_inputs((), sides[0], sides[1]).p_value <= 0.01


def test_the_same_samples_give_the_same_p_values() -> None:
    sides = [({"a": 40, "b": 9}, {"a": 20, "b": 14}), (dict(Counter("aab")), dict(Counter("abb")))]
    for one, other in sides:
        assert compare_labels(one, other) == compare_labels(dict(reversed(one.items())), other)
