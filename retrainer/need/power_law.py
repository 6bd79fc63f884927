"""The error, or its odds (scale.py), by the number of training rows: an inverse power law, fitted to many
curves at once.

    error(n) = floor + scale * (n / N)^-exponent        floor, scale >= 0

C. Cortes, L. D. Jackel, S. A. Solla, V. Vapnik, J. S. Denker: Learning curves: asymptotic values and rate of
convergence (NIPS 1993); J. Hestness et al.: Deep learning scaling is predictable, empirically
(arXiv:1712.00409, 2017); survey: T. Viering, M. Loog: The shape of learning curves (IEEE TPAMI 45, 2023).

Legend: P sizes of the training set, N the largest of them, D curves, E exponents that are tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_EXPONENTS = np.geomspace(0.05, 2.5, 240)
# Before any point is seen the exponent is near 0.5, within a factor of e^0.7 in two cases of three: four or
# seven points that wobble say little of it, and without this many fits end at one of the two ends.
USUAL_EXPONENT, EXPONENT_SPREAD = 0.5, 0.7


@dataclass(frozen=True)
class PowerLaws:
    """D laws: `floor`, `scale`, `exponent` float64 [D]; `rows` is N."""

    floor: np.ndarray
    scale: np.ndarray
    exponent: np.ndarray
    rows: float

    def error(self, rows: float) -> np.ndarray:
        """float64 [D]: the error at so many training rows."""
        return self.floor + self.scale * (rows / self.rows) ** -self.exponent

    def rows_for(self, error: np.ndarray) -> np.ndarray:
        """float64 [D]: the rows at which each law reaches the error [D]; inf where it never does."""
        above = error - self.floor
        within = (above > 0) & (self.scale > 0)
        ratio = np.divide(self.scale, above, out=np.ones_like(above), where=within)
        with np.errstate(over="ignore"):
            return np.where(within, self.rows * ratio ** (1 / self.exponent), np.inf)


def fit(rows: np.ndarray, errors: np.ndarray, deviations: np.ndarray, expected: np.ndarray) -> PowerLaws:
    """The likeliest law of each curve.

    rows        float64 [P]
    errors      float64 [D, P]
    deviations  float64 [P]: the standard deviation of each error
    expected    float64 [D]: the logarithm of the exponent that is expected, with EXPONENT_SPREAD around it

    For each exponent floor and scale follow from linear regression, both at least 0; of all exponents the one
    with the least sum of squares is taken.
    """
    powers = (rows / rows.max())[None, :] ** -_EXPONENTS[:, None]  # [E, P]
    weights = 1 / deviations**2
    total = weights.sum()
    x, xx = powers @ weights, (powers**2) @ weights  # [E]
    y, xy = errors @ weights, (errors * weights) @ powers.T  # [D], [D, E]
    scale = (total * xy - y[:, None] * x) / (total * xx - x**2)
    floor = (y[:, None] - scale * x) / total
    # Where one of the two would be negative it is 0, and the other is fitted alone.
    flat, straight = scale < 0, floor < 0
    scale = np.where(flat, 0, np.where(straight, xy / xx, scale))
    floor = np.where(flat, (y / total)[:, None], np.where(straight, 0, floor))
    loss = (errors**2 @ weights)[:, None] + floor**2 * total + scale**2 * xx
    loss += 2 * (floor * scale * x - floor * y[:, None] - scale * xy)
    loss += ((np.log(_EXPONENTS) - expected[:, None]) / EXPONENT_SPREAD) ** 2
    best = loss.argmin(axis=1)
    curves = np.arange(len(errors))
    return PowerLaws(floor[curves, best], scale[curves, best], _EXPONENTS[best], float(rows.max()))
