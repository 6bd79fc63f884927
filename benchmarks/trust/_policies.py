"""The rules that are compared, on counts: of `rows` rows the candidate alone has `better` right, the champion
alone `worse`. `better` and `not-worse` are the gate's own tests; the others are what is often done instead.

    >=          at least as many rows right as the champion
    >           more rows right
    unpaired    two-proportion z-test, which forgets that the rows are the same
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np

from retrainer.gate.exact import critical, mcnemar_p_value, noninferiority_p_value, plausible_counts

ALPHA = 0.05
MARGIN = 0.01
POLICIES = ("better", "not-worse", "unpaired", ">", ">=")
_Z = NormalDist().inv_cdf(1 - ALPHA)


def promoted(
    policy: str, rows: int, better: np.ndarray, worse: np.ndarray, accuracy: np.ndarray | float
) -> np.ndarray:
    """Whether the policy promotes, bool like `better`. `accuracy` is the champion's on these rows."""
    if policy == ">=":
        return better >= worse
    if policy == ">":
        return better > worse
    if policy == "unpaired":
        return _unpaired(rows, better, worse, accuracy)
    # Both tests ask, for a number of discordant rows, for at least so many in the candidate's favour.
    counts, place = np.unique(better + worse, return_inverse=True)
    least = {"better": _least_better, "not-worse": _least_not_worse}[policy]
    needed = np.array([least(rows, int(count)) for count in counts])
    return np.asarray(better >= needed[place.reshape(better.shape)])


def exact_rate(policy: str, rows: int, share: float, gain: float) -> float:
    """How often `better` or `not-worse` promotes, summed over all counts instead of drawn."""
    from scipy.stats import binom

    counts = plausible_counts(rows, share, share)
    chance = binom.pmf(counts, rows, share)
    counts, chance = counts[chance > 1e-9], chance[chance > 1e-9]
    least = {"better": _least_better, "not-worse": _least_not_worse}[policy]
    needed = np.array([least(rows, int(count)) for count in counts])
    return float((chance * binom.sf(needed - 1, counts, (1 + gain / share) / 2)).sum())


def _unpaired(rows: int, better: np.ndarray, worse: np.ndarray, accuracy: np.ndarray | float) -> np.ndarray:
    difference = (better - worse) / rows
    pooled = np.clip(accuracy + difference / 2, 0, 1)
    return np.asarray(difference > _Z * np.sqrt(2 * pooled * (1 - pooled) / rows))


@cache
def _least_better(rows: int, count: int) -> int:  # noqa: ARG001
    return next((b for b in range(count + 1) if mcnemar_p_value(b, count - b) <= ALPHA), count + 1)


@cache
def _least_not_worse(rows: int, count: int) -> int:
    """Starts where the normal approximation would be, and goes to where the exact test says."""

    def passes(better: int) -> bool:
        return noninferiority_p_value(rows, better, count - better, MARGIN) <= ALPHA

    at = min(count, int(critical(np.array([count]), rows, MARGIN, _Z)[0]))
    while at <= count and not passes(at):
        at += 1
    while 0 < at <= count and passes(at - 1):
        at -= 1
    return at
