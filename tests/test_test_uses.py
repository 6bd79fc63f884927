"""How many models a test set has judged, by the rows that it shares with those of earlier judgements."""

from __future__ import annotations

import numpy as np
import pytest

from retrainer.uses_of_test_set import EvaluationRows, Judgement

SHA = [f"{n:064x}" for n in range(20)]


def keys(start: int, stop: int) -> np.ndarray:
    """So many of one unending list of keys."""
    return np.random.default_rng(0).integers(0, 2**64, 40_000, dtype=np.uint64)[start:stop]


def rows(start: int, stop: int) -> EvaluationRows:
    return EvaluationRows(f"{start}-{stop}", np.unique(keys(start, stop)))


def judged(number: int, of: EvaluationRows) -> Judgement:
    return Judgement(SHA[number], of.sha256, of.sample)


def test_a_row_more_or_less_is_the_same_test_set() -> None:
    before = [judged(n, rows(0, 1000)) for n in range(5)]
    for today in (rows(0, 1000), rows(0, 1001), rows(1, 1000), rows(0, 1900), rows(400, 1300)):
        assert today.uses(SHA[9], before) == 6, today.sha256
    assert rows(0, 1001).uses(SHA[0], before) == 5, "this model is one of the five"


def test_rows_that_are_mostly_new_begin_anew() -> None:
    before = [judged(n, rows(0, 1000)) for n in range(5)]
    assert rows(700, 1700).uses(SHA[9], before) == 1
    assert rows(5000, 6000).uses(SHA[9], before) == 1


@pytest.mark.parametrize(("size", "of"), [(3000, 12_000), (12_000, 3000), (90, 30_000), (40, 60)])
def test_a_part_of_a_test_set_is_that_test_set(size: int, of: int) -> None:
    """Whichever is the smaller of the two."""
    assert rows(0, size).uses(SHA[9], [judged(1, rows(0, of))]) == 2


def test_a_growing_test_set_counts_on() -> None:
    sizes = [int(500 * 1.1**n) for n in range(12)]
    months = [judged(n, rows(0, size)) for n, size in enumerate(sizes)]
    assert [rows(0, size).uses(SHA[n], months[:n]) for n, size in enumerate(sizes)] == list(range(1, 13))


@pytest.mark.parametrize("share", [0.35, 0.65])
def test_the_share_is_estimated_closely_enough(share: float) -> None:
    """Fifteen points off one half, whichever rows: five standard deviations of the sample's share."""
    new = int(4000 * (1 - share))
    counted = {
        rows(at + new, at + new + 4000).uses(SHA[9], [judged(1, rows(at, at + 4000))])
        for at in range(0, 30_000, 500)
    }
    assert counted == {2 if share > 0.5 else 1}


def test_versions_without_a_sample_count_by_their_digest() -> None:
    """Those that an older version registered, and those whose tag is none of ours."""
    today = rows(0, 100)
    older = [Judgement(SHA[1], today.sha256, ""), Judgement(SHA[2], "other", ""), Judgement("", "0-100", "")]
    broken = [
        Judgement(SHA[3], "other", text)
        for text in ("x", "9:", ":", "9:%%%", "1:" + "A" * 64, "-3:AAAAAAAAAAA=")
    ]
    assert today.uses(SHA[9], [*older, *broken]) == 2
    assert EvaluationRows("0-100", None).uses(SHA[9], [judged(4, today), judged(5, rows(0, 101))]) == 2


def test_a_sample_fits_into_a_tag() -> None:
    assert len(rows(0, 40_000).sample) < 3000
    assert EvaluationRows("x", None).sample == ""
    empty, none = (EvaluationRows(name, np.zeros(0, np.uint64)) for name in ("x", "y"))
    assert empty.uses(SHA[9], [judged(1, empty), judged(2, none)]) == 2
