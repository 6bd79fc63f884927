"""How many more rows: the learning curve of a cheap head, drawn at every evaluation. `make curve` draws that
of the recipe's own model.

The head's curve is off where it would mislead: few rows, a head that has learned nothing, a metric of
probabilities, which the head does not give.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.evaluation.request import Request
from retrainer.formats.row_keys import read_components
from retrainer.gate.measured import measure
from retrainer.need.extrapolate import Made, Point, need_of
from retrainer.need.scale import Scale
from retrainer.need.subsets import nested_parts

if TYPE_CHECKING:
    from retrainer.evaluation.measurements import Measurements
    from retrainer.tasks._protocol import CheapCurve

LEAST_TRAIN, LEAST_TEST, MOST_TRAIN = 500, 200, 20_000
_SHARES = (1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4)
_DRAWS = 3
# The head makes at most this share of the errors of the answer that never looks at its input.
_LEAST_SKILL = 0.9
_OF_PROBABILITIES = ("log_loss", "calibration_error")


def need_figures(request: Request, found: Measurements) -> dict[str, Any]:
    """`need` of metrics.json: the fields of `Need`, and `head`, what the curve is of; or `missing`, why there
    is no curve."""
    missing = _missing(request, found)
    if missing:
        return {"missing": missing}
    draws = _draws(request, len(found.judged.train))
    drawn = found.judged.predictor.task.cheap_curve(found.judged.train, found.judged.test, draws)
    if drawn.missing:
        return {"missing": drawn.missing}
    points = _points(found, draws, drawn)
    trivial = found.baselines[0][1].pairs[found.scores.gate_metric].other.value
    scale = Scale.of(found.scores.metrics[found.scores.gate_metric], found.scores.gate_metric, trivial)
    if scale.error(points[-1].value) > _LEAST_SKILL * scale.error(trivial):
        return {"missing": f"{drawn.title} learns too little of these rows for its curve to say anything"}
    if len({point.rows for point in points}) < len(points):
        return {"missing": "the rows are in too few groups to take parts of them"}
    need = need_of(points, scale, request.evaluation.confidence, request.evaluation.seed)
    return need.plain() | {"head": drawn.title}


def _points(found: Measurements, draws: Sequence[Sequence[np.ndarray]], drawn: CheapCurve) -> list[Point]:
    """By the gate's metric, a point for each size."""
    name, made = found.scores.gate_metric, [Made([], []) for _ in draws[0]]
    places = [place for parts in draws for place in range(len(parts))]
    for place, (rows, predictions) in zip(places, drawn.answers, strict=True):
        made[place].rows.append(rows)
        value = measure(found.scores.metrics[name], name, predictions, found.judged.test).value
        made[place].values.append(value)
    return [one.point for one in made]


def _missing(request: Request, found: Measurements) -> str:
    train, test = len(found.judged.train), len(found.judged.test)
    if not hasattr(found.judged.predictor.task, "cheap_curve"):
        return "this task has no cheap head; `make curve` draws the curve of the model itself"
    if not request.evaluation.baseline:
        return "evaluation.baseline is false"
    if found.scores.gate_metric in _OF_PROBABILITIES:
        return "the cheap head gives no probabilities; `make curve` draws the curve of the model itself"
    if not Scale.has_best(found.scores.metrics[found.scores.gate_metric]):
        return "the gate's metric has no best value, so there is no error to extrapolate"
    if train < LEAST_TRAIN or test < LEAST_TEST:
        return (
            f"{train:,} training and {test:,} test rows are too few; {LEAST_TRAIN} and {LEAST_TEST} would do"
        )
    if train > MOST_TRAIN:
        return f"{train:,} training rows are too many for a curve in passing; `make curve` draws one"
    return ""


def _draws(request: Request, rows: int) -> list[list[np.ndarray]]:
    """Nested parts of each draw; all rows are fitted once. Rows of one component stay together."""
    linked = read_components(request.dataset).get("train")
    units = np.arange(rows) if linked is None or len(linked) != rows else linked
    sizes = [round(share * rows) for share in _SHARES]
    seed = request.evaluation.seed
    parts = [nested_parts(units, sizes, seed + draw) for draw in range(_DRAWS)]
    parts[0].append(np.arange(rows))
    return parts
