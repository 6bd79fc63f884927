"""Is a classifier worse than another by a margin? The exact unconditional test for paired rows.

Both are right, one alone is, or none is: on N rows, `better` and `worse` count the rows that one alone has
right. Under the hypothesis to refute, the candidate's accuracy is lower by `margin`. The share of discordant
rows is then unknown, and the chance of what was seen depends on it: the p-value is the largest over all
shares that the discordant rows make plausible. So a model that is worse by the margin passes at most as
often as agreed, on few rows too, where the normal approximation passes it too often.
Sources: Tango, Statistics in Medicine 17 (1998), 891–908 (the statistic, its nuisance estimated under the
hypothesis); Berger and Boos, Journal of the American Statistical Association 89 (1994), 1012–1016 (the
largest p-value over a confidence region of the nuisance, plus that region's own error).
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from retrainer.evaluation.compare import detectable, plausible_counts

# What the region of plausible discordant shares may miss; it is added to the p-value.
GAMMA = 1e-4
_GRID = 64
# Statistics nearer than this are ties.
_TIE = 1e-9


def score(better: np.ndarray, worse: np.ndarray, rows: int, margin: float) -> np.ndarray:
    """Tango's statistic of `better - worse` against a loss of `margin`: near standard normal on the edge."""
    linear = better + worse + (2 * rows - better + worse) * margin
    constant = worse * margin * (1 + margin)
    # The likeliest share of rows that the champion alone has right, if the candidate is worse by the margin.
    lost = (linear + np.sqrt(np.maximum(linear**2 - 8 * rows * constant, 0))) / (4 * rows)
    variance = rows * (2 * lost - margin - margin**2)
    return np.asarray((better - worse + rows * margin) / np.sqrt(variance))


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


def smallest_true_difference(rows: int, share: float, margin: float, alpha: float, power: float) -> float:
    """The least true difference in accuracy at which a model passes with probability `power`.

    It is negative where even a slightly worse model passes so often. Calculated with the statistic's normal
    cut, which is the exact test's to within a row or two.
    """
    cut = NormalDist().inv_cdf(1 - alpha)
    found = detectable(rows, share, power, lambda counts: critical(counts, rows, margin, cut), -margin)
    return 1.0 if found is None else found


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
