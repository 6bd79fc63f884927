"""How many more rows: the learning curve of a cheap head, drawn at every evaluation. `make curve` draws that
of the recipe's own model.

The head's curve is off where it would mislead: few rows, a head that has learned nothing, a metric of
probabilities, which the head does not give.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.evaluation.request import Request
from retrainer.formats.row_keys import read_components
from retrainer.gate.measured import measure
from retrainer.need.extrapolate import Point, Scale, need_of
from retrainer.need.subsets import nested_parts

if TYPE_CHECKING:
    from retrainer.evaluation.measurements import Measurements

LEAST_TRAIN, LEAST_TEST, MOST_TRAIN = 500, 200, 20_000
_SHARES = (1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4)
_DRAWS = 3
_OF_PROBABILITIES = ("log_loss", "calibration_error")


def need_figures(request: Request, found: Measurements) -> dict[str, Any]:
    """`need` of metrics.json: the fields of `Need`, and `head`, what the curve is of; or `missing`, why there
    is no curve."""
    missing = _missing(request, found)
    if missing:
        return {"missing": missing}
    train, test = found.judged.train, found.judged.test
    drawn = found.judged.predictor.task.cheap_curve(train, test, _draws(request, len(train)))
    if drawn.missing:
        return {"missing": drawn.missing}
    name = found.scores.gate_metric
    metric = found.scores.metrics[name]
    scale = Scale.of(metric, name)
    values: dict[int, list[float]] = defaultdict(list)
    for rows, predictions in drawn.answers:
        values[rows].append(measure(metric, name, predictions, test).value)
    points = [Point(rows, tuple(those)) for rows, those in values.items()]
    trivial = found.baselines[0][1].pairs[name].other.value
    if scale.error(max(points, key=lambda point: point.rows).value) > 0.9 * scale.error(trivial):
        return {"missing": f"{drawn.title} learns too little of these rows for its curve to say anything"}
    need = need_of(points, scale, request.evaluation.confidence, request.evaluation.seed)
    return need.plain() | {"head": drawn.title}


def _missing(request: Request, found: Measurements) -> str:
    train, test = len(found.judged.train), len(found.judged.test)
    if not hasattr(found.judged.predictor.task, "cheap_curve"):
        return "this task has no cheap head; `make curve` draws the curve of the model itself"
    if not request.evaluation.baseline:
        return "evaluation.baseline is false"
    if found.scores.gate_metric in _OF_PROBABILITIES:
        return "the cheap head gives no probabilities; `make curve` draws the curve of the model itself"
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
