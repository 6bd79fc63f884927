"""What a learning curve says of more rows: the value at twice as many, and the rows to the next point.

The interval comes from resampling: each draw moves every point of the curve by what another choice of
training rows would have moved it, moves the exponent that is expected, and fits the law again. It is that of
one further training, judged on the same rows as the points. docs/need-for-data.md has what it covers.
The law is fitted to the odds of the errors, see scale.py.

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
from retrainer.need.scale import Odds, Scale

DRAWS = 2000
# Fewer sizes leave nothing over from fitting three numbers.
LEAST_SIZES = 3
# No curve is a power law: a point may lie off by this share of its error, more for each halving of the rows.
_MISFIT = 0.015
# So many times the rows of today, and nothing is said of what lies beyond.
FURTHEST = 10
# Of an error: what is less is rounding.
_LEAST_DEVIATION = 1e-4


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
    law          {"floor", "scale", "exponent", "worst"}: power_law.py, of the odds of the error by `worst`
                 (scale.py; null: of the error itself)
    at_twice     {"rows", "value", "low", "high"}: the metric at twice the rows
    step         by how much the next value is better, in the metric's own unit
    next_value   the metric that far from today's point of the law
    more_rows    {"value", "low", "high"}: rows that it takes beyond today's; null: more than FURTHEST times
    kind         `rows`: more_rows has a value; `open`: it may take so many, or may never be reached; `flat`:
                 even the fewest rows of the interval are more than FURTHEST times today's
    best, higher_is_better, share    see Scale in scale.py
    """

    points: list[dict[str, Any]]
    law: dict[str, float | None]
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
    odds = Odds.above(scale, errors)
    law, drawn, spread = _laws(points, rows, errors, odds, scale, seed)
    most, tail = float(rows.max()), (1 - confidence) / 2
    twice = np.maximum(
        0, odds.error(drawn.error(2 * most)) + spread * np.random.default_rng((seed, 1)).normal(size=DRAWS)
    )
    ends = sorted(scale.value(float(end)) for end in np.quantile(twice, [tail, 1 - tail]))
    now = float(odds.error(law.error(most))[0])
    step = scale.step(now)
    # Each draw starts from its own point of today: the step is a difference.
    needed = np.concatenate(
        [each.rows_for(odds.of(odds.error(each.error(most)) - step)) for each in (law, drawn)]
    )
    needed -= most
    bounds = np.quantile(needed[1:], [tail, 1 - tail], method="nearest")
    more = {"value": _rows(needed[0], most), "low": _rows(bounds[0], most), "high": _rows(bounds[1], most)}
    middle = min(max(scale.value(float(odds.error(law.error(2 * most))[0])), ends[0]), ends[1])
    return Need(
        [
            {"rows": p.rows, "value": round(p.value, 6), "values": [round(v, 6) for v in p.values]}
            for p in points
        ],
        {
            **{name: round(float(getattr(law, name)[0]), 6) for name in ("floor", "scale", "exponent")},
            "worst": None if math.isinf(odds.worst) else round(odds.worst, 6),
        },
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
        scale.best,
        scale.higher_is_better,
        scale.share,
    )


def _laws(
    points: Sequence[Point], rows: np.ndarray, errors: np.ndarray, odds: Odds, scale: Scale, seed: int
) -> tuple[PowerLaws, PowerLaws, np.ndarray]:
    """The law of the points, those of the D draws, all of odds, and the deviation of a further training [D].

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
    weights = deviations * odds.slope(errors)
    law = fit(rows, odds.of(errors)[None], weights, np.array([usual]))
    drawn_variance = variance * freedom / random.chisquare(freedom, DRAWS)
    spread = np.sqrt(drawn_variance[:, None] * errors / counts + off**2 + _LEAST_DEVIATION**2)
    moved = np.maximum(0, errors + spread * random.normal(size=spread.shape))
    laws = fit(rows, odds.of(moved), weights, usual + EXPONENT_SPREAD * random.normal(size=DRAWS))
    one_more = np.sqrt(drawn_variance * odds.error(laws.error(2 * rows.max())) + _LEAST_DEVIATION**2)
    return law, laws, one_more


def _rows(needed: float, today: float) -> int | None:
    """To two digits, at least 1; None beyond FURTHEST times today's."""
    if not needed <= (FURTHEST - 1) * today:
        return None
    digits = max(0, len(str(int(needed))) - 2)
    return max(1, int(round(needed, -digits)))
