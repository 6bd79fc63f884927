"""A learning curve as inline SVG: each training a dot, the law through them, the interval at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retrainer.pages.charts import Ends, Frame, bounds, share_ends, svg, ticks

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 420, 250, 52, 20, 14, 42
_STEPS = 60


def learning_curve_chart(need: Mapping[str, Any], label: str) -> str:
    """`need` are the fields of `Need`. Rows are drawn from 0 to twice today's."""
    twice, today = need["at_twice"], need["points"][-1]["rows"]
    curve = _law(need)
    low, high = ends = _ends(need)
    margins = (_LEFT, _RIGHT, _TOP, _BOTTOM)
    frame = Frame((_WIDTH, _HEIGHT), margins, (0, twice["rows"]), ends)
    x, y = frame.x, frame.y
    marks = ticks(0, twice["rows"], 4)
    parts = [svg(_WIDTH, _HEIGHT, label), *frame.y_axis(), *frame.x_axis(marks, "training rows")]
    at, bottom = f"{x(today):.1f}", _HEIGHT - _BOTTOM
    parts.append(f'<line class="kept" x1="{at}" x2="{at}" y1="{_TOP}" y2="{bottom}"/>')
    path = " ".join(f"{x(rows):.1f},{y(value):.1f}" for rows, value in curve if low <= value <= high)
    parts.append(f'<polyline class="line s0" points="{path}"/>')
    for point in need["points"]:
        for value in point["values"]:
            parts.append(f'<circle class="dot s0" cx="{x(point["rows"]):.1f}" cy="{y(value):.1f}" r="3"/>')
    end, below, above = (f"{at:.1f}" for at in (x(twice["rows"]), y(twice["low"]), y(twice["high"])))
    parts.append(f'<line class="range other" x1="{end}" x2="{end}" y1="{below}" y2="{above}"/>')
    parts.append(f'<circle class="other" cx="{end}" cy="{y(twice["value"]):.1f}" r="5"/>')
    return "".join([*parts, "</svg>"])


def _ends(need: Mapping[str, Any]) -> Ends:
    """Of the axis: shares end at 1."""
    twice = need["at_twice"]
    values = [value for point in need["points"] for value in point["values"]]
    values += [twice["low"], twice["high"]]
    if need["share"]:
        return share_ends(values, need["higher_is_better"])
    low, high = bounds(values)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _law(need: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(rows, value) of the fitted law from the fewest rows to twice the most."""
    law, first, today = need["law"], need["points"][0]["rows"], need["points"][-1]["rows"]
    best, sign = need["best"], -1 if need["higher_is_better"] else 1
    rows = [first * (2 * today / first) ** (step / _STEPS) for step in range(_STEPS + 1)]
    odds = [law["floor"] + law["scale"] * (n / today) ** -law["exponent"] for n in rows]
    worst = law.get("worst") or float("inf")
    return [(n, best + sign * each / (1 + each / worst)) for n, each in zip(rows, odds, strict=True)]
