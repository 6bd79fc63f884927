"""What a training is going to cost, told before it begins: what the last one like it used."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from retrainer.cost import TRAIN_ROWS, in_words, number, priced
from retrainer.errors import UserError
from retrainer.services.runs_over_rest import FoundRun
from retrainer.services.trainings import Effort, efforts, measured_runs, params_of
from retrainer.settings import Rates

_EPOCHS = "training.epochs"
# What says how a training is recorded, and changes no time.
_IDLE = ("code_digest", "packages", "seed", "weights_sha256", "digest")
_MOST_NAMES = 4
_LOOKED_AT = 100

Sections = Mapping[str, Mapping[str, Any]]


def expected(
    sections: Sections,
    rows: Mapping[str, int] | None,
    rates: Rates | None = None,
    experiment: str = "",
    trainings: int = 1,
) -> str:
    """One line, of so many trainings; empty where there was none like them. `rows` are those of each split;
    None where nobody knows them yet.

    Time is taken to grow with rows × epochs; what else differs is named, not reckoned with.
    """
    try:
        last = _likest(measured_runs(experiment, most=_LOOKED_AT), params_of(sections))
    except UserError as error:
        return f"what it will cost is not known: {error}"
    if last is None:
        return ""
    rates = rates or Rates.parse({}, "evaluation.cost")
    return _line(last, params_of(sections), rows, rates, trainings)


def _likest(runs: list[FoundRun], params: Mapping[str, str]) -> Effort | None:
    """Of the trainings that made a model, the newest of those whose settings differ least from `params`."""
    made = [one for one in efforts(runs) if one.model_sha256]
    return min(reversed(made), key=lambda one: len(_differing(one.runs[-1], params)), default=None)


def _line(
    last: Effort,
    params: Mapping[str, str],
    rows: Mapping[str, int] | None,
    rates: Rates,
    trainings: int,
) -> str:
    run = last.runs[-1]
    then = (run.metrics.get(TRAIN_ROWS, 0.0), _whole(run.params.get(_EPOCHS)))
    now = (float(rows.get("train", 0)) if rows is not None else then[0], _whole(params.get(_EPOCHS)))
    known = all(then) and all(now)
    factor = now[0] * now[1] / (then[0] * then[1]) if known else 1.0
    usage = last.usage.scaled(factor * trainings)
    day = datetime.fromtimestamp(run.began / 1000, UTC).date().isoformat()
    many = "" if trainings == 1 else f" for {trainings} whole trainings"
    cost = f"{in_words(priced(usage, rates))} in {_duration(usage.hours)}{many}"
    words = f"expected: {cost}, by the training of {day}"
    if rows is None:
        words += f", of {then[0]:,.0f} rows; it grows with the rows and epochs"
    elif known and factor != 1.0:
        words += f", scaled from {_size(then)} to {_size(now)}"
    others = [name for name in _differing(run, params) if name != _EPOCHS or not known]
    if others:
        more = f" and {len(others) - _MOST_NAMES} more" if len(others) > _MOST_NAMES else ""
        words += f"; not reckoned with: another {', '.join(others[:_MOST_NAMES])}{more}"
    return words


def _differing(run: FoundRun, params: Mapping[str, str]) -> list[str]:
    names = sorted({*run.params, *params})
    return [
        name
        for name in names
        if name.rpartition(".")[2] not in _IDLE and run.params.get(name) != params.get(name)
    ]


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _size(size: tuple[float, int]) -> str:
    return f"{size[0]:,.0f} rows × {size[1]} epochs"


def _duration(hours: float) -> str:
    seconds = 3600 * hours
    if seconds < 100:
        return f"{number(seconds)} s"
    return f"{number(seconds / 60)} min" if seconds < 6000 else f"{number(hours)} h"
