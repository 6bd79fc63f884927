"""Exact tests of two models on the same rows, each of which a model has right or not, and what they can find.

Both models are right on a row, one alone is, or none is. `better` and `worse` count the discordant rows:
those that only the candidate, or only the other, has right.

Is the candidate better? If both were equally good, each discordant row would favour either with probability
1/2: McNemar's test, here one-sided and exact (binomial), so that it also holds for few rows.

Is the candidate worse by a margin or more? Under the hypothesis to refute its share of right rows is lower
by the margin. The share of discordant rows is then unknown, and the chance of what was seen depends on it:
the p-value is the largest over all shares that the discordant rows make plausible. So a model that is worse
by the margin passes at most as often as agreed, on few rows too, where the normal approximation passes it
too often.

Sources: McNemar, Psychometrika 12 (1947), 153–157. Tango, Statistics in Medicine 17 (1998), 891–908 (the
statistic, its nuisance estimated under the hypothesis). Berger and Boos, Journal of the American Statistical
Association 89 (1994), 1012–1016 (the largest p-value over a confidence region of the nuisance, plus that
region's own error).

Legend: C numbers of discordant rows.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from retrainer.gate.chance import LEAST_P

# What the region of plausible discordant shares may miss; it is added to the p-value.
GAMMA = 1e-4
_GRID = 64
# Nobody labels more test rows than this to see a difference.
MOST_ROWS = 10_000_000
# By which a number of rows rises until it is enough.
_STEP = 1.03
# Statistics nearer than this are ties.
_TIE = 1e-9
# Beyond so many standard deviations a binomial count is ignored when chances are summed.
_FAR = 8.0
_BISECTIONS = 24

# Numbers of discordant rows [C] → how many of them must favour the candidate; one too many: it cannot be.
Critical = Callable[[np.ndarray], np.ndarray]


def mcnemar_p_value(better: int, worse: int) -> float:
    """P(at least `better` of `better + worse` fair coins fall for the candidate): small says it is better.

    1.0 when there is no discordant row; LEAST_P where it is less than that.
    """
    from scipy.special import bdtrc

    if better <= 0:
        return 1.0
    return float(np.clip(bdtrc(better - 1, better + worse, 0.5), LEAST_P, 1.0))


def noninferiority_p_value(rows: int, better: int, worse: int, margin: float) -> float:
    """How often a model worse by `margin` would look at least this good; small says it is not so much worse.

    `margin` is a share of the rows, above 0 and below 1.
    """
    low, high = _plausible_shares(rows, better + worse)
    low = max(low, margin)  # no smaller share of discordant rows can hold so large a loss
    if high <= low:
        return GAMMA
    counts = plausible_counts(rows, low, high)
    cut = float(score(np.array(better), np.array(worse), rows, margin))
    needed = critical(counts, rows, margin, cut)
    shares = np.linspace(low, high, _GRID)
    chances = _chances(shares, counts, needed, rows, margin)
    top = int(chances.argmax())
    near = np.linspace(shares[max(0, top - 1)], shares[min(_GRID - 1, top + 1)], _GRID // 2)
    largest = max(chances[top], _chances(near, counts, needed, rows, margin).max())
    return float(min(1.0, largest + GAMMA))


def smallest_gain(rows: int, discordant_share: float, alpha: float, power: float) -> float | None:
    """The smallest true gain that McNemar's test at level `alpha` finds with probability `power`.

    `discordant_share` is the share of discordant rows, as observed on a pair; a gain larger than it needs
    (and gets) more such rows. None: so few rows show no gain at all.
    """
    return _detectable(rows, discordant_share, power, lambda counts: _majority(counts, alpha), 0.0)


def least_difference(rows: int, share: float, margin: float, alpha: float, power: float) -> float:
    """The least true difference at which a model passes as not worse by `margin` with probability `power`.

    It is negative where even a slightly worse model passes so often. Calculated with the statistic's normal
    cut, which is the exact test's to within a row or two.
    """
    cut = NormalDist().inv_cdf(1 - alpha)
    found = _detectable(rows, share, power, lambda counts: critical(counts, rows, margin, cut), -margin)
    return 1.0 if found is None else found


def rows_needed(difference: float, share: float, margin: float, alpha: float, power: float) -> int | None:
    """About how many rows show a true `difference` with probability `power`, in two digits.

    `share` is that of discordant rows; `margin` 0: shown to be better by McNemar's test, else not worse by
    the margin. None: no number of rows does, or more than MOST_ROWS would be needed.
    """
    cut = NormalDist().inv_cdf(1 - alpha)

    def enough(rows: int) -> bool:
        def needed(counts: np.ndarray) -> np.ndarray:
            return critical(counts, rows, margin, cut) if margin else _majority(counts, alpha)

        return _power(rows, share, difference, needed) >= power

    rows = _rows_by_the_normal(difference + margin, max(share, abs(difference)), cut, power)
    while rows <= MOST_ROWS and not enough(int(rows)):
        rows = _STEP * rows + 1
    return in_two_digits(rows) if rows <= MOST_ROWS else None


def _rows_by_the_normal(ahead: float, share: float, cut: float, power: float) -> float:
    """The number of rows by the normal approximation (Connor, Biometrics 43 (1987), 207–211)."""
    if ahead <= 0:
        return np.inf
    spread = cut * np.sqrt(share) + NormalDist().inv_cdf(power) * np.sqrt(max(share - ahead**2, 0.0))
    return max(1.0, float((spread / ahead) ** 2))


def in_two_digits(rows: float) -> int:
    """Rounded up."""
    unit = 10 ** max(0, int(np.log10(rows)) - 1)
    return int(np.ceil(rows / unit)) * unit


def score(better: np.ndarray, worse: np.ndarray, rows: int, margin: float) -> np.ndarray:
    """Tango's statistic of `better - worse` against a loss of `margin`: near standard normal on the edge."""
    linear = better + worse + (2 * rows - better + worse) * margin
    constant = worse * margin * (1 + margin)
    # The likeliest share of rows that the other alone has right, if the candidate is worse by the margin.
    lost = (linear + np.sqrt(np.maximum(linear**2 - 8 * rows * constant, 0))) / (4 * rows)
    variance = rows * (2 * lost - margin - margin**2)
    return np.asarray((better - worse + rows * margin) / np.sqrt(variance))


def critical(counts: np.ndarray, rows: int, margin: float, cut: float) -> np.ndarray:
    """For each number of discordant rows, how many must favour the candidate for a score of `cut`.

    One more than there are: it cannot be.
    """
    enough: np.ndarray = counts + 1
    short: np.ndarray = np.full_like(counts, -1)
    while (enough - short > 1).any():
        middle = np.maximum((enough + short) // 2, 0)
        reached = score(middle, counts - middle, rows, margin) >= cut - _TIE
        # Between -1 and counts + 1, both ends of which are known, `middle` is a number of rows.
        open_ = enough - short > 1
        enough = np.where(open_ & reached, middle, enough)
        short = np.where(open_ & ~reached, middle, short)
    return enough


def plausible_counts(rows: int, low: float, high: float) -> np.ndarray:
    """All numbers of rows that can be met, but for a vanishing chance, where a share low..high is drawn."""
    down, up = (_FAR * np.sqrt(rows * share * (1 - share)) + 1 for share in (low, high))
    return np.arange(max(0, int(rows * low - down)), min(rows, int(rows * high + up)) + 1)


def _plausible_shares(rows: int, discordant: int) -> tuple[float, float]:
    """Clopper and Pearson's exact interval, which misses the true share with probability GAMMA at most."""
    from scipy.special import betaincinv

    low = betaincinv(discordant, rows - discordant + 1, GAMMA / 2) if discordant else 0.0
    high = betaincinv(discordant + 1, rows - discordant, 1 - GAMMA / 2) if discordant < rows else 1.0
    return float(low), float(high)


def _chances(
    shares: np.ndarray, counts: np.ndarray, needed: np.ndarray, rows: int, margin: float
) -> np.ndarray:
    """For each share of discordant rows, how often `needed` of them favour a model worse by the margin."""
    from scipy.special import bdtrc
    from scipy.stats import binom

    favour = (1 - margin / shares) / 2
    chance = binom.pmf(counts, rows, shares[:, None])
    return np.asarray((chance * bdtrc(needed - 1, counts, favour[:, None])).sum(axis=1))


def _detectable(
    rows: int, discordant_share: float, power: float, critical: Critical, least: float
) -> float | None:
    """The smallest true difference from `least` on that a test finds with probability `power`.

    The power is the exact one, summed over the number of discordant rows. None: not even the largest is.
    """
    if _power(rows, discordant_share, 1.0, critical) < power:
        return None
    low, high = least, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        enough = _power(rows, discordant_share, middle, critical) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def _power(rows: int, discordant_share: float, difference: float, critical: Critical) -> float:
    """Probability that the test sees a true `difference` of the shares of right rows."""
    from scipy.special import bdtr, bdtrc

    share = min(1.0, max(discordant_share, abs(difference)))
    if share == 0.0:
        return float(critical(np.zeros(1, dtype=np.int64))[0] == 0)
    counts = plausible_counts(rows, share, share)
    below = bdtr(counts[0] - 1, rows, share) if counts[0] else 0.0
    chance = np.diff(bdtr(counts, rows, share), prepend=below)
    favour = min(1.0, (1 + difference / share) / 2)
    return float(np.sum(chance * bdtrc(critical(counts) - 1, counts, favour)))


def _majority(counts: np.ndarray, alpha: float) -> np.ndarray:
    """For each number of discordant rows, how many must favour the candidate by McNemar's test."""
    from scipy.special import bdtrc

    start = counts / 2 + NormalDist().inv_cdf(1 - alpha) * np.sqrt(counts) / 2
    needed = np.clip(np.floor(start).astype(np.int64) - 3, 1, counts + 1)
    while True:
        short = (needed <= counts) & (bdtrc(needed - 1, counts, 0.5) > alpha)
        if not short.any():
            return needed
        needed = needed + short
