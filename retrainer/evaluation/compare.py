"""Two classifiers on the same rows: which is right more often, and what could be noticed at all.

Only the rows where exactly one of the two is right say anything about their difference. If both were
equally good, each such row would favour either with probability 1/2: that is McNemar's test, here
one-sided (is the candidate better?) and exact (binomial), so that it also holds for few rows.
Source: McNemar, Psychometrika 12 (1947), 153–157.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

# Beyond so many standard deviations a binomial count is ignored when powers are summed.
_FAR = 8.0
_BISECTIONS = 24

# Numbers of discordant rows [C] → how many of them must favour the candidate; one too many: it cannot be.
Critical = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """A candidate against another on the same rows. `better`: rows that only the candidate had right."""

    rows: int
    better: int
    worse: int
    p_value: float

    @property
    def difference(self) -> float:
        """Candidate's accuracy minus the other's."""
        return (self.better - self.worse) / self.rows

    @property
    def discordant_share(self) -> float:
        """Share of rows where exactly one of the two was right."""
        return (self.better + self.worse) / self.rows


def compare(candidate_correct: np.ndarray, other_correct: np.ndarray) -> Comparison:
    """Pairs two bool [N] arrays row by row. Raises ValueError when they aren't of one length, or empty."""
    shapes = candidate_correct.shape, other_correct.shape
    if shapes[0] != shapes[1] or len(shapes[0]) != 1 or not shapes[0][0]:
        raise ValueError(f"cannot pair rows of shapes {shapes[0]} and {shapes[1]}")
    better = int(np.sum(candidate_correct & ~other_correct))
    worse = int(np.sum(other_correct & ~candidate_correct))
    return Comparison(len(candidate_correct), better, worse, mcnemar_p_value(better, worse))


def mcnemar_p_value(better: int, worse: int) -> float:
    """P(at least `better` of `better + worse` fair coins fall for the candidate): small says it is better.

    1.0 when the two are never differently right.
    """
    from scipy.special import bdtrc

    return float(min(1.0, bdtrc(better - 1, better + worse, 0.5))) if better > 0 else 1.0


def smallest_difference(rows: int, discordant_share: float, alpha: float, power: float) -> float | None:
    """The smallest gain in accuracy that the test above finds with probability `power` on so many rows.

    `discordant_share` is the share of rows where exactly one of two such models is right, as observed on a
    pair; a gain larger than it needs (and gets) more such rows. None: these rows are too few to find any gain
    at level `alpha`.
    """
    return detectable(rows, discordant_share, power, lambda counts: _critical(counts, alpha), 0.0)


def detectable(
    rows: int, discordant_share: float, power: float, critical: Critical, least: float
) -> float | None:
    """The smallest difference in accuracy from `least` on that a paired test finds with probability `power`.

    `critical` is the test: numbers of discordant rows [C] → how many of them must favour the candidate. The
    power is the exact one, summed over the number of discordant rows. None: not even the largest is found.
    """
    if _power(rows, discordant_share, 1.0, critical) < power:
        return None
    low, high = least, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        enough = _power(rows, discordant_share, middle, critical) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def plausible_counts(rows: int, low: float, high: float) -> np.ndarray:
    """All numbers of rows that can be met, but for a vanishing chance, where a share low..high is drawn."""
    down, up = (_FAR * np.sqrt(rows * share * (1 - share)) + 1 for share in (low, high))
    return np.arange(max(0, int(rows * low - down)), min(rows, int(rows * high + up)) + 1)


def _power(rows: int, discordant_share: float, difference: float, critical: Critical) -> float:
    """Probability that the test sees a true `difference` in accuracy."""
    from scipy.special import bdtr, bdtrc

    share = min(1.0, max(discordant_share, abs(difference)))
    if share == 0.0:
        return float(critical(np.zeros(1, dtype=np.int64))[0] == 0)
    counts = plausible_counts(rows, share, share)
    below = bdtr(counts[0] - 1, rows, share) if counts[0] else 0.0
    chance = np.diff(bdtr(counts, rows, share), prepend=below)
    favour = min(1.0, (1 + difference / share) / 2)
    return float(np.sum(chance * bdtrc(critical(counts) - 1, counts, favour)))


def _critical(counts: np.ndarray, alpha: float) -> np.ndarray:
    """For each number of discordant rows, how many must favour the candidate; one too many: it cannot be."""
    from scipy.special import bdtrc

    start = counts / 2 + NormalDist().inv_cdf(1 - alpha) * np.sqrt(counts) / 2
    needed = np.clip(np.floor(start).astype(np.int64) - 3, 1, counts + 1)
    while True:
        short = (needed <= counts) & (bdtrc(needed - 1, counts, 0.5) > alpha)
        if not short.any():
            return needed
        needed = needed + short
