"""Many one-sided tests at once: p-values corrected for their number.

Corrected so, of any number of tests whose hypotheses are all true one is at most alpha with a probability of
at most alpha, however the tests depend on each other. Holm's correction multiplies a p-value by the number
of tests. Of few discordant rows an exact test has only few p-values that it can take, and the smallest of
them may be large: such a test can hardly err, and is counted for as much as it can. That finds far more
than Holm's correction, and as much as the largest of all statistics does (benchmarks/trust tells how much).
Sources: Holm, Scandinavian Journal of Statistics 6 (1979), 65–70 (the steps). Westfall and Wolfinger, The
American Statistician 51 (1997), 3–8 (discrete p-values); Tarone, Biometrics 46 (1990), 515–522 (the idea).

Legend: T tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# P-values nearer than this, relatively, are ties.
_TIE = 1e-9


@dataclass(frozen=True)
class PValue:
    """One test's. `discordant`: the rows that an exact McNemar test counts; None: any p-value can come, as of
    a bootstrap test."""

    p_value: float
    discordant: int | None = None


def chances(discordant: int | None, bounds: np.ndarray) -> np.ndarray:
    """How often a test's p-value is at most each of `bounds` [T] when its two models are equal."""
    if discordant is None:
        return np.minimum(bounds, 1.0)
    from scipy.special import bdtrc

    rising = np.sort(np.minimum(bdtrc(np.arange(discordant + 1) - 1.0, discordant, 0.5), 1.0))
    rising[-1] = 1.0  # of none that favours either
    place = np.searchsorted(rising, bounds * (1 + _TIE), side="right")
    return np.where(place > 0, rising[np.maximum(place - 1, 0)], 0.0)


def corrected(tests: Sequence[PValue]) -> list[float]:
    """The corrected p-value of each test, in their order."""
    if not tests:
        return []
    values = np.array([one.p_value for one in tests])
    order = np.argsort(values, kind="stable")
    rising = values[order]
    # [T, T]: the chance of each test, in that order, at each of the p-values.
    each = np.stack([chances(tests[place].discordant, rising) for place in order])
    # A p-value is held against the tests that have not been refused before it.
    sums = np.cumsum(each[::-1], axis=0)[::-1].diagonal()
    stepped = np.minimum(np.maximum.accumulate(np.maximum(sums, rising)), 1.0)
    found = np.empty(len(tests))
    found[order] = stepped
    return [float(value) for value in found]


def smallest_corrected(tests: Sequence[PValue], values: np.ndarray) -> np.ndarray:
    """What each test's corrected p-value would be if its own were that of `values` [T], the least of all."""
    if not tests:
        return np.zeros(0)
    each = np.stack([chances(one.discordant, values) for one in tests])  # [T, T]
    np.fill_diagonal(each, values)
    return np.asarray(np.minimum(each.sum(axis=0), 1.0))
