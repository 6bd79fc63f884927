"""What a learning curve says, in words: for the terminal, the report and the model card alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retrainer.need.extrapolate import FURTHEST

Figures = Mapping[str, Any]


def more_rows(need: Figures) -> str:
    """How many rows the next step takes, in half a sentence."""
    more, today = need["more_rows"], need["points"][-1]["rows"]
    target = f"to {value(need, need['next_value'])} ({_step(need)} better)"
    if need["kind"] == "flat":
        return (
            f"the curve is flat: {target} even {FURTHEST} times as many rows of this kind would not suffice"
        )
    low = f"{more['low']:,}"
    if need["kind"] == "open":
        return f"{target} it takes {low} more rows at least, perhaps more than {(FURTHEST - 1) * today:,}"
    high = f"{more['high']:,}" if more["high"] is not None else f"more than {(FURTHEST - 1) * today:,}"
    return f"{target} it takes about {more['value']:,} more rows ({low} to {high})"


def at_twice(need: Figures) -> str:
    """The metric at twice the rows, in half a sentence."""
    twice = need["at_twice"]
    ends = f"{value(need, twice['low'])} to {value(need, twice['high'])}"
    return f"with twice the rows ({twice['rows']:,}) {value(need, twice['value'])} ({ends})"


def rows_to_next_point(need: Figures) -> str:
    """The tag of that name of a registered version."""
    if need["kind"] != "rows":
        return "flat" if need["kind"] == "flat" else f"{need['more_rows']['low']} or more"
    return str(need["more_rows"]["value"])


def value(need: Figures, number: float) -> str:
    """The metric with as many digits as one step of it has, and one more."""
    return f"{number:.3f}" if need["share"] else f"{number:.4g}"


def _step(need: Figures) -> str:
    if not need["share"]:
        return f"{need['step']:.2g}"
    points = 100 * need["step"]
    return "1 point" if points == 1 else f"{points:.2g} points"
