"""What a learning curve says of more rows: the value at twice as many, and the rows to the next point.

The interval comes from resampling: each draw moves every point of the curve by what another choice of
training rows would have moved it, moves the exponent that is expected, and fits the law again. It is that of
one further training, judged on the same rows as the points. docs/need-for-data.md has what it covers.

Legend: P points, R trainings of a point, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from retrainer.errors import SettingError
from retrainer.need.power_law import EXPONENT_SPREAD, USUAL_EXPONENT, PowerLaws, fit

DRAWS = 2000
# Fewer sizes leave nothing over from fitting three numbers.
LEAST_SIZES = 3
# No curve is a power law: a point may lie off by this share of its error, more for each halving of the rows.
_MISFIT = 0.015
# So many times the rows of today, and nothing is said of what lies beyond.
FURTHEST = 10
# Below this error the next point is a tenth of it.
_SMALL_ERROR = 0.05
_POINT = 0.01
# Of an error: what is less is rounding.
_LEAST_DEVIATION = 1e-4


@dataclass(frozen=True)
class Scale:
    """A metric as an error: the distance from its `best` value. `share`: it is said in points of 0.01."""

    best: float
    higher_is_better: bool
    share: bool

    @classmethod
    def of(cls, metric: Any, name: str) -> Scale:
        """Raises SettingError for a metric without a best value: there is no error to extrapolate."""
        best = metric.HIGHEST if metric.HIGHER_IS_BETTER else metric.LOWEST
        if not cls.has_best(metric):
            raise SettingError(
                f"gate.metric: {name} has no best value, so a learning curve has no end; set another"
            )
        return cls(float(best), bool(metric.HIGHER_IS_BETTER), metric.UNIT == "share")

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
class Point:
    """`values`: the metric of each training on `rows` training rows."""

    rows: int
    values: tuple[float, ...]

    @property
    def value(self) -> float:
        return sum(self.values) / len(self.values)


@dataclass(frozen=True)
class Made:
    """What the trainings of one size gave. Whole groups make the parts of one size differ by some rows."""

    rows: list[int]
    values: list[float]

    @property
    def point(self) -> Point:
        return Point(round(sum(self.rows) / len(self.rows)), tuple(self.values))


@dataclass(frozen=True)
class Need:
    """
    points       [{"rows", "value", "values"}] from the fewest rows to all of them
    law          {"floor", "scale", "exponent"} of the error, see power_law.py
    at_twice     {"rows", "value", "low", "high"}: the metric at twice the rows
    step         by how much the next value is better, in the metric's own unit
    next_value   the metric that far from today's point of the law
    more_rows    {"value", "low", "high"}: rows that it takes beyond today's; null: more than FURTHEST times
    kind         `rows`: more_rows has a value; `open`: it may take so many, or may never be reached; `flat`:
                 even the fewest rows of the interval are more than FURTHEST times today's
    best, higher_is_better, share    see Scale
    """

    points: list[dict[str, Any]]
    law: dict[str, float]
    at_twice: dict[str, float]
    step: float
    next_value: float
    more_rows: dict[str, int | None]
    kind: str
    best: float
    higher_is_better: bool
    share: bool

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def need_of(points: Sequence[Point], scale: Scale, confidence: float = 0.95, seed: int = 0) -> Need:
    """Raises SettingError for fewer than LEAST_SIZES sizes, or none with more than one training."""
    points = sorted(points, key=lambda point: point.rows)
    if len({point.rows for point in points}) < LEAST_SIZES or all(len(one.values) < 2 for one in points):
        raise SettingError(
            f"a learning curve needs {LEAST_SIZES} sizes or more, one of them drawn more than once; give more"
        )
    rows = np.array([point.rows for point in points], np.float64)
    errors = np.array([np.mean([scale.error(value) for value in point.values]) for point in points])
    law, drawn, spread = _laws(points, rows, errors, scale, seed)
    most, tail = float(rows.max()), (1 - confidence) / 2
    twice = np.maximum(
        0, drawn.error(2 * most) + spread * np.random.default_rng((seed, 1)).normal(size=DRAWS)
    )
    ends = sorted(scale.value(float(end)) for end in np.quantile(twice, [tail, 1 - tail]))
    now = float(law.error(most)[0])
    step = scale.step(now)
    # Each draw starts from its own point of today: the step is a difference.
    needed = (
        np.concatenate([law.rows_for(law.error(most) - step), drawn.rows_for(drawn.error(most) - step)])
        - most
    )
    bounds = np.quantile(needed[1:], [tail, 1 - tail], method="nearest")
    more = {"value": _rows(needed[0], most), "low": _rows(bounds[0], most), "high": _rows(bounds[1], most)}
    middle = min(max(scale.value(float(law.error(2 * most)[0])), ends[0]), ends[1])
    return Need(
        [
            {"rows": p.rows, "value": round(p.value, 6), "values": [round(v, 6) for v in p.values]}
            for p in points
        ],
        {name: round(float(getattr(law, name)[0]), 6) for name in ("floor", "scale", "exponent")},
        {
            "rows": 2 * int(most),
            "value": round(middle, 6),
            "low": round(ends[0], 6),
            "high": round(ends[1], 6),
        },
        round(step, 6),
        round(scale.value(now - step), 6),
        more,
        "flat" if more["low"] is None else "open" if more["value"] is None else "rows",
        **asdict(scale),
    )


def _laws(
    points: Sequence[Point], rows: np.ndarray, errors: np.ndarray, scale: Scale, seed: int
) -> tuple[PowerLaws, PowerLaws, np.ndarray]:
    """The law of the points, those of the D draws, and the deviation of one further training [D].

    The variance between trainings on other rows is taken to go with the error, and is pooled over the points;
    in each draw it is itself drawn, as so few trainings do not tell it (the scaled inverse chi-square).
    """
    random = np.random.default_rng((seed, 0))
    counts = np.array([len(point.values) for point in points])
    squares = sum(
        ((np.array([scale.error(v) for v in p.values]) - error) ** 2).sum() / max(error, _LEAST_DEVIATION)
        for p, error in zip(points, errors, strict=True)
    )
    freedom = int((counts - 1).sum())
    variance = squares / freedom
    off = _MISFIT * errors * (1 + np.log2(rows.max() / rows))
    deviations = np.sqrt(variance * errors / counts + off**2 + _LEAST_DEVIATION**2)
    usual = np.log(USUAL_EXPONENT)
    law = fit(rows, errors[None], deviations, np.array([usual]))
    drawn_variance = variance * freedom / random.chisquare(freedom, DRAWS)
    spread = np.sqrt(drawn_variance[:, None] * errors / counts + off**2 + _LEAST_DEVIATION**2)
    moved = np.maximum(0, errors + spread * random.normal(size=spread.shape))
    laws = fit(rows, moved, deviations, usual + EXPONENT_SPREAD * random.normal(size=DRAWS))
    one_more = np.sqrt(drawn_variance * laws.error(2 * rows.max()) + _LEAST_DEVIATION**2)
    return law, laws, one_more


def _rows(needed: float, today: float) -> int | None:
    """To two digits, at least 1; None beyond FURTHEST times today's."""
    if not needed <= (FURTHEST - 1) * today:
        return None
    digits = max(0, len(str(int(needed))) - 2)
    return max(1, int(round(needed, -digits)))
