"""A metric as an error, and the error as its odds, to which the power law is fitted.

Few rows teach nothing: a learning curve begins flat, at the error W of an answer that never looks at its
input, and steepens before it flattens again. A power law of the error has no such beginning. One of its odds,
e / (1 - e / W), has; far below W the two are the same, and where W is not known it is infinite. In
docs/need-for-data.md stands what either forecasts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from retrainer.errors import SettingError

# Below this error the next point is a tenth of it.
_SMALL_ERROR = 0.05
_POINT = 0.01
# A model of a few rows may be worse than an answer that never looks: W lies so many times above its error.
_ABOVE = 1.02
# Of W: an error that is moved beyond it has no odds.
_MOST_SHARE = 0.99


@dataclass(frozen=True)
class Scale:
    """A metric as an error: the distance from its `best` value. `share`: it is said in points of 0.01.
    `worst`: the error of an answer that never looks at its input, where it is known."""

    best: float
    higher_is_better: bool
    share: bool
    worst: float | None = None

    @classmethod
    def of(cls, metric: Any, name: str, trivial: float | None = None) -> Scale:
        """`trivial`: the metric's value of an answer that never looks at its input. Raises SettingError for a
        metric without a best value: there is no error to extrapolate."""
        best = metric.HIGHEST if metric.HIGHER_IS_BETTER else metric.LOWEST
        if not cls.has_best(metric):
            raise SettingError(
                f"gate.metric: {name} has no best value, so a learning curve has no end; set another"
            )
        scale = cls(float(best), bool(metric.HIGHER_IS_BETTER), metric.UNIT == "share")
        return scale if trivial is None else replace(scale, worst=scale.error(trivial) or None)

    @staticmethod
    def has_best(metric: Any) -> bool:
        return math.isfinite(metric.HIGHEST if metric.HIGHER_IS_BETTER else metric.LOWEST)

    def error(self, value: float) -> float:
        return max(0.0, self.best - value if self.higher_is_better else value - self.best)

    def value(self, error: float) -> float:
        return self.best - error if self.higher_is_better else self.best + error

    def step(self, error: float) -> float:
        """What counts as the next step: a point of a share, or a tenth of the error that is left."""
        return _POINT if self.share and error >= _SMALL_ERROR else error / 10


@dataclass(frozen=True)
class Odds:
    """Of an error its odds, and the way back; `worst` is W, above every error of the curve."""

    worst: float

    @classmethod
    def above(cls, scale: Scale, errors: np.ndarray) -> Odds:
        return cls(math.inf if scale.worst is None else max(scale.worst, _ABOVE * float(errors.max())))

    def of(self, error: np.ndarray) -> np.ndarray:
        return np.asarray(error / (1 - np.minimum(error / self.worst, _MOST_SHARE)))

    def error(self, odds: np.ndarray) -> np.ndarray:
        return odds / (1 + odds / self.worst)

    def slope(self, error: np.ndarray) -> np.ndarray:
        """By how much the odds change with the error."""
        return np.asarray((1 - np.minimum(error / self.worst, _MOST_SHARE)) ** -2.0)
