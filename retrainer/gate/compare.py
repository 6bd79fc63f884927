"""Two models on the same rows by one metric: how much better the candidate is, and whether that may be luck.

A share of rows is compared by the exact tests of `retrainer.gate.exact`. For any other metric rows are drawn
with replacement, for both models the same, and the gain is measured on every draw. How far the draws deviate
from the gain that was seen stands for how far that may deviate from the true one: the basic bootstrap. Plain
quantiles of the gain (the percentile bootstrap) and the gain in units of its standard error pass equal models
more often than agreed on few rows (docs/decisions tells the figures). Where the draws are biased in the
candidate's favour, as those of a calibration error are that came out low by luck, the bias is taken out.
Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), sections 4.4 and 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from retrainer.gate.exact import (
    MOST_ROWS,
    in_two_digits,
    least_difference,
    mcnemar_p_value,
    noninferiority_p_value,
    rows_needed,
    smallest_gain,
)
from retrainer.gate.pair import Pair

# Fewer discordant rows say nothing of how far the gain could have deviated.
FEWEST_DISCORDANT = 10
# A smaller bias of the draws, in standard errors, is left in: it is their noise.
_BIAS = 0.1
# Gains nearer than this are ties, which speak against the candidate.
_TIE = 1e-12


@dataclass(frozen=True)
class Comparison:
    """`difference`: by how much the candidate's value is better, whichever direction is better.

    groups          of how many units the rows are, where they depend on each other
    discordant      rows, or units, that do not count alike for the two
    better, worse   of a share of rows: those that only the candidate, or only the other, has right
    standard_error  of the difference, where it was bootstrapped; `p_value` is 1 where fewer than
                    FEWEST_DISCORDANT rows are discordant
    """

    rows: int
    candidate: float
    other: float
    difference: float
    p_value: float
    discordant: int
    better: int | None = None
    worse: int | None = None
    standard_error: float | None = None
    groups: int | None = None

    @property
    def discordant_share(self) -> float:
        return self.discordant / self.rows

    @property
    def enough(self) -> bool:
        """Whether the rows can tell the two apart at all."""
        return self.standard_error is None or self.discordant >= FEWEST_DISCORDANT

    def smallest_difference(self, margin: float, alpha: float, power: float) -> float | None:
        """The least true difference that the test of these rows passes with probability `power`; None: none,
        or it is not known. Bootstrapped ones count as normal, with the spread that was observed."""
        if self.standard_error is None:
            return detectable_share(self.rows, self.discordant_share, margin, alpha, power)
        normal = NormalDist()
        spreads = normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)
        return spreads * self.standard_error - margin if self.enough else None

    def rows_needed(self, margin: float, alpha: float, power: float) -> int | None:
        """About how many rows would pass a model with probability `power` whose true difference is the one
        seen here. None: no number of rows would, or it is not known. Bootstrapped ones as above."""
        if self.standard_error is None:
            return rows_needed(self.difference, self.discordant_share, margin, alpha, power)
        smallest, ahead = self.smallest_difference(margin, alpha, power), self.difference + margin
        if smallest is None or ahead <= 0:
            return None
        rows = self.rows * ((smallest + margin) / ahead) ** 2
        return in_two_digits(rows) if rows <= MOST_ROWS else None


def detectable_share(
    rows: int, discordant_share: float, margin: float, alpha: float, power: float
) -> float | None:
    """The smallest difference of two shares of rows, by the exact tests."""
    if margin:
        return least_difference(rows, discordant_share, margin, alpha, power)
    return smallest_gain(rows, discordant_share, alpha, power)


def compare(pair: Pair, margin: float = 0.0) -> Comparison:
    """One-sided: is the candidate better (`margin` 0), or not worse by `margin` or more?"""
    return _exact(pair, margin) if pair.is_share else bootstrap_test(pair, margin)


def _exact(pair: Pair, margin: float) -> Comparison:
    mine, its = pair.candidate.right, pair.other.right
    better, worse, rows = int(np.sum(mine & ~its)), int(np.sum(its & ~mine)), pair.rows
    p_value = (
        noninferiority_p_value(rows, better, worse, margin) if margin else mcnemar_p_value(better, worse)
    )
    values = pair.candidate.value, pair.other.value
    return Comparison(rows, *values, (better - worse) / rows, p_value, better + worse, better, worse)


def bootstrap_test(pair: Pair, margin: float = 0.0) -> Comparison:
    """The same arguments give the same p-value, which is a multiple of 1 / (draws + 1).

    By a metric that ranks rows the bootstrap alone passes equal models too often on few rows. For `margin` 0
    the candidate must pass the paired permutation test too (Noreen 1989, Computer-Intensive Methods for
    Testing Hypotheses), which is exact where the two models' answers could change places: the greater p-value
    counts.
    """
    gain, deviations = pair.gain, pair.deviations
    spread, bias = float(deviations.std()), float(deviations.mean())
    if bias < -_BIAS * spread:
        deviations = deviations - bias
    p_value = _share_as_far(deviations, gain + margin)
    if not margin and pair.candidate.ranks_rows:
        p_value = max(p_value, _share_as_far(pair.swapped_gains, gain))
    discordant = pair.discordant_count
    if discordant < FEWEST_DISCORDANT:
        p_value = 1.0
    values = pair.candidate.value, pair.other.value
    groups = None if pair.candidate.units is None else pair.candidate.unit_count
    return Comparison(pair.rows, *values, gain, p_value, discordant, standard_error=spread, groups=groups)


def _share_as_far(found: np.ndarray, gain: float) -> float:
    return float((1 + np.sum(found >= gain - _TIE)) / (1 + len(found)))
