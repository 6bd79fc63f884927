"""The year as one picture: inline SVG, a column a month, from what came to what it cost."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.year.outcomes import (
    BY_A_PERSON,
    CHALLENGER,
    HELD,
    NOTHING_NEW,
    PREEMPTED,
    PROMOTED,
    ROLLED_BACK,
    STOPPED,
)
from retrainer.pages.charts import Range, range_chart
from retrainer.pages.page import escape
from retrainer.texts import shortened

CSS = """
main { max-width: 1120px; }
svg.year { width: 100%; height: auto; }
.year text { font-size: 12px; }
.year .month { font-size: 13px; font-weight: 650; }
.year .event { font-size: 11.5px; }
.year .band { fill: var(--own); fill-opacity: .14; }
.year .line { fill: none; stroke: var(--own); stroke-width: 2.5; stroke-linejoin: round; }
.year .carried { fill: none; stroke: var(--own); stroke-width: 2; stroke-dasharray: 2 5; }
.year .truth { fill: none; stroke: var(--good); stroke-width: 2; stroke-dasharray: 6 3; }
.year .champion-dot { fill: var(--own); }
.year .candidate-dot { fill: var(--card); stroke: var(--quiet); stroke-width: 2; }
.year .cost { fill: var(--other); fill-opacity: .55; }
.year .good { fill: var(--good); } .year .wait { fill: var(--wait); } .year .bad { fill: var(--wrong); }
.year .calm { fill: var(--quiet); }
.year .sign { fill: none; stroke: var(--card); stroke-width: 2; stroke-linecap: round; }
.year .missed { fill: none; stroke: var(--wrong); stroke-width: 2; stroke-dasharray: 3 2; }
.outcome { border-radius: 99px; padding: 2px 10px; font-weight: 600; font-size: 12.5px; white-space: nowrap;
  color: var(--card); display: inline-block; }
.outcome svg { display: inline-block; vertical-align: -1.5px; }
.outcome path { fill: none; stroke: var(--card); stroke-width: 2; stroke-linecap: round; }
.outcome.good { background: var(--good); } .outcome.wait { background: var(--wait); }
.outcome.bad { background: var(--wrong); } .outcome.calm { background: var(--quiet); }
pre { overflow-x: auto; font: 12px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; margin: 0; }
td .said { display: block; overflow-wrap: anywhere; }
.year-narrow { display: none; }
@media screen { svg.year { min-width: 860px; } .again { visibility: hidden; } }
@media screen and (max-width: 960px) { td.label { min-width: 80px; } .outcome { white-space: normal; } }
@media screen and (min-width: 961px) { td .said { min-width: 240px; } }
@media screen and (max-width: 700px) { .year-wide { display: none; } .year-narrow { display: block; }
  .again { visibility: visible; } }
"""
# The colour of an outcome, and its sign: strokes in a square from -4 to 4.
LOOK = {
    PROMOTED: ("good", "M-4 0.5 L-1 3.5 L4 -3"),
    BY_A_PERSON: ("good", "M-4 0.5 L-1 3.5 L4 -3"),
    CHALLENGER: ("calm", "M-4 -2 H4 M-4 2 H4"),
    HELD: ("wait", "M-2.3 -4 V4 M2.3 -4 V4"),
    NOTHING_NEW: ("calm", "M-4 0 H4"),
    STOPPED: ("bad", "M-3.5 -3.5 L3.5 3.5 M-3.5 3.5 L3.5 -3.5"),
    ROLLED_BACK: ("wait", "M4 3 V0 H-3.5 M-0.5 -3.5 L-4 0 L-0.5 3.5"),
    PREEMPTED: ("wait", "M1 -4.5 L-2.5 0.5 H2.5 L-1 4.5"),
}
_WIDTH, _LEFT, _RIGHT = 1072, 58, 8
_SIGNS, _CHART, _CHART_END, _COST_END = 84, 118, 318, 404
_EVENT_CHARACTERS, _EVENT_LINES = 13, 3

Month = Mapping[str, Any]


def look_of(outcome: str) -> tuple[str, str]:
    """The CSS class of an outcome's colour, and the strokes of its sign."""
    return LOOK.get(outcome, ("calm", ""))


@dataclass(frozen=True)
class Point:
    """The champion's figure after a month; `carried`: nothing was judged, it is the last one known."""

    value: float
    low: float
    high: float
    carried: bool


def champions(months: Sequence[Month]) -> list[Point | None]:
    """A point a month; None before there is a champion."""
    points: list[Point | None] = []
    for month in months:
        judged = [act for act in month["acts"] if act["candidate"]]
        if not judged:
            last = points[-1] if points else None
            points.append(last and Point(last.value, last.low, last.high, True))
            continue
        last_judged = judged[-1]
        won = last_judged["version"] == month["champion"] or not last_judged["champion"]
        found = last_judged["candidate" if won else "champion"]
        points.append(Point(found["value"], found["low"], found["high"], False))
    return points


class Scale:
    """Where months, figures and seconds stand in the picture."""

    def __init__(self, months: Sequence[Month], points: Sequence[Point | None]) -> None:
        self.step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(months))
        candidates = [act["candidate"] for month in months for act in month["acts"] if act["candidate"]]
        values = [one["value"] for one in candidates]
        values += [month["truth"] for month in months if month["truth"] is not None]
        ends = [point.low for point in points if point] + values
        tops = [point.high for point in points if point] + values
        self.low, self.high = min(ends, default=0.0), max(tops, default=1.0)
        room = (self.high - self.low) * 0.06 or 0.05
        # A share has no more than 1.
        self.low, self.high = self.low - room, 1.0 if 0.5 < self.high <= 1 else self.high + room
        self.longest = max((seconds_of(month) for month in months), default=1.0) or 1.0

    def x(self, month: int) -> float:
        return _LEFT + (month + 0.5) * self.step

    def y(self, value: float) -> float:
        return _CHART_END - (value - self.low) / (self.high - self.low) * (_CHART_END - _CHART)

    def cost(self, seconds: float) -> float:
        return seconds / self.longest * (_COST_END - _CHART_END - 28)


def seconds_of(month: Month) -> float:
    return float(sum(act["seconds"] for act in month["acts"]))


def timeline(months: Sequence[Month], metric: str) -> str:
    points = champions(months)
    scale = Scale(months, points)
    label = f"A year month by month: what came, what was decided, the champion's {metric}, and what it cost"
    height = _COST_END + 22
    parts = [
        f'<svg class="year" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">',
        *_grid(scale, metric),
        *_line(points, scale),
        *_truth(months, scale),
    ]
    for number, month in enumerate(months):
        parts += _column(month, number, points[number], scale)
    return "".join([*parts, "</svg>"])


def month_by_month(months: Sequence[Month], metric: str) -> str:
    """The champion's figures below each other, where a screen has no room for a year side by side."""
    rows = [
        Range(
            f"{month['name']}: {month['title']}",
            point.value,
            point.low,
            point.high,
            f"{point.value:.3f}",
            True,
        )
        for month, point in zip(months, champions(months), strict=True)
        if point
    ]
    return range_chart(rows, f"the champion's {metric} month by month") if rows else ""


def _grid(scale: Scale, metric: str) -> Iterator[str]:
    first, last = round(scale.low * 20 + 0.5), round(scale.high * 20 - 0.5)
    for tick in (twentieth / 20 for twentieth in range(first, last + 1)):
        y = scale.y(tick)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(_LEFT - 8, y + 4, f"{tick:g}", "tick", "end")
    yield _text(0, _CHART - 14, shortened(metric, 40), "tick", "start")
    yield _text(0, _COST_END + 16, "seconds", "tick", "start")
    yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_COST_END}" y2="{_COST_END}"/>'


def _line(points: Sequence[Point | None], scale: Scale) -> Iterator[str]:
    """The interval as a band, the line over all months, dotted where nothing was judged."""
    known = [(number, point) for number, point in enumerate(points) if point]
    if not known:
        return
    upper = [f"{scale.x(number):.1f},{scale.y(point.high):.1f}" for number, point in known]
    lower = [f"{scale.x(number):.1f},{scale.y(point.low):.1f}" for number, point in reversed(known)]
    yield f'<polygon class="band" points="{" ".join([*upper, *lower])}"/>'
    for (number, point), (after, next_point) in pairwise(known):
        kind = "carried" if next_point.carried else "line"
        ends = f'x1="{scale.x(number):.1f}" y1="{scale.y(point.value):.1f}"'
        yield f'<line class="{kind}" {ends} x2="{scale.x(after):.1f}" y2="{scale.y(next_point.value):.1f}"/>'


def _truth(months: Sequence[Month], scale: Scale) -> Iterator[str]:
    """The champion's figure on rows that the product never saw."""
    known = [(number, month["truth"]) for number, month in enumerate(months) if month["truth"] is not None]
    places = " ".join(f"{scale.x(number):.1f},{scale.y(value):.1f}" for number, value in known)
    if places:
        yield f'<polyline class="truth" points="{places}"/>'


def _column(month: Month, number: int, point: Point | None, scale: Scale) -> Iterator[str]:
    x = scale.x(number)
    yield _text(x, 14, month["name"][:3], "month")
    lines = textwrap.wrap(month["title"], _EVENT_CHARACTERS)[:_EVENT_LINES]
    for at, line in enumerate(lines):
        yield _text(x, 33 + 14 * at, shortened(line, 14), "event")
    yield from _signs(month, x)
    yield from _dots(month, point, x, scale)
    seconds, top = seconds_of(month), _COST_END - scale.cost(seconds_of(month))
    box = f'x="{x - 15:.1f}" y="{top:.1f}" width="30" height="{_COST_END - top:.1f}"'
    yield f'<rect class="cost" {box} rx="2"/>'
    yield _text(x, _COST_END + 16, f"{seconds:.0f}", "tick")


def _signs(month: Month, x: float) -> Iterator[str]:
    """A coin for each command's outcome, in their order; a ring around one that was not expected."""
    acts = month["acts"]
    for at, act in enumerate(acts):
        colour, path = look_of(act["kind"])
        middle = x + (at - (len(acts) - 1) / 2) * 25
        tooltip = f"{act['command']}: {act['kind']}. {act['reason']}"
        yield f'<g transform="translate({middle:.1f} {_SIGNS})"><title>{escape(tooltip)}</title>'
        yield f'<circle class="{colour}" r="10.5"/><path class="sign" d="{path}"/>'
        yield "</g>" if act["as_expected"] else '<circle class="missed" r="14"/></g>'


def _dots(month: Month, point: Point | None, x: float, scale: Scale) -> Iterator[str]:
    """Full: the champion's figure after the month. Hollow: a model that was judged and did not become it."""
    for act in month["acts"]:
        if act["candidate"] and act["version"] != month["champion"]:
            yield _dot(x, scale.y(act["candidate"]["value"]), "candidate-dot")
    if point and not point.carried:
        yield _dot(x, scale.y(point.value), "champion-dot")


def _dot(x: float, y: float, kind: str) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "middle") -> str:
    place = f'text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'
