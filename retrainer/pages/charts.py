"""Charts as inline SVG: no script, no outside file, colours by CSS class so that light and dark both work.

They are as wide as their place: what is drawn by percent keeps the size of its letters on any screen.
Every text from outside goes through `escape`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from retrainer.pages.page import escape

Points = Sequence[tuple[float, float]]
Ends = tuple[float, float]
# Lines that the style gives a colour and a stroke of their own.
SERIES = 6


@dataclass(frozen=True)
class Range:
    """A row of `range_chart`: a value with its interval; `own` marks the model that is judged.

    `floor` is drawn where it must not lie below it.
    """

    title: str
    value: float
    low: float
    high: float
    shown: str
    own: bool = False
    floor: float | None = None


def range_chart(rows: list[Range], label: str, shares: bool = True) -> str:
    """Values and intervals under each other on one axis; that of shares ends at 1, or beyond the largest."""
    ends = _axis(rows, shares)
    marks = ticks(*ends)
    grid = "".join(_upright("grid", _percent(tick, ends)) for tick in marks)
    drawn = "".join(_range(row, ends, grid) for row in rows)
    names = "".join(_tick(tick, _percent(tick, ends)) for tick in marks)
    axis = f'<li class="axis" aria-hidden="true"><div class="plot"><svg>{names}</svg></div></li>'
    return f'<ul class="ranges" aria-label="{escape(label)}">{drawn}{axis}</ul>'


def _range(row: Range, ends: Ends, grid: str) -> str:
    low, value, high = (_percent(one, ends) for one in (row.low, row.value, row.high))
    kind = "own" if row.own else "other"
    floor = "" if row.floor is None else _upright("floor", _percent(row.floor, ends))
    interval = f'<line class="range {kind}" x1="{low}%" x2="{high}%" y1="50%" y2="50%"/>'
    dot = f'<circle class="{kind}" cx="{value}%" cy="50%" r="5.5"/>'
    return (
        f'<li class="{kind}"><span class="name">{escape(row.title)}</span>'
        f'<div class="plot" aria-hidden="true"><svg>{grid}{interval}{dot}{floor}</svg></div>'
        f'<span class="value">{escape(row.shown)}</span></li>'
    )


def _percent(value: float, ends: Ends) -> float:
    return round(100 * (value - ends[0]) / (ends[1] - ends[0]), 2)


def _upright(kind: str, at: float) -> str:
    return f'<line class="{kind}" x1="{at}%" x2="{at}%" y1="0" y2="100%"/>'


def _tick(value: float, at: float) -> str:
    anchor = "start" if at < 2 else "end" if at > 98 else "middle"
    return f'<text class="tick" text-anchor="{anchor}" x="{at}%" y="14">{plain_number(value)}</text>'


def _axis(rows: list[Range], shares: bool) -> Ends:
    """Where it begins and ends: a little beyond the intervals and the floors."""
    ends = [end for row in rows for end in (row.low, row.high, row.floor) if end is not None]
    if shares:  # begins and ends on a tenth; a word error rate may lie above 1
        end = max(1.0, math.ceil(max(ends) * 10) / 10)
        return min(max(0.0, math.floor(min(ends) * 10 - 0.3) / 10), end - 0.1), end
    low, high = bounds(ends)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def share_ends(values: Sequence[float], higher_is_better: bool = True) -> Ends:
    """The axis of shares: from a tenth below them to 1; where less is better from 0 to a tenth above them."""
    if not higher_is_better:
        return 0.0, max(0.1, math.ceil(10 * max(values)) / 10)
    return min(0.9, max(0.0, math.floor(10 * min(values)) / 10)), max(1.0, *values)


@dataclass(frozen=True)
class Frame:
    """The plane of a chart: `x_range` and `y_range` fill the size, pixels, but for the margins (left, right,
    top, bottom)."""

    size: tuple[int, int]
    margins: tuple[int, int, int, int]
    x_range: Ends
    y_range: Ends

    def x(self, value: float) -> float:
        (low, high), (left, right, _, _) = self.x_range, self.margins
        return left + (value - low) / (high - low) * (self.size[0] - left - right)

    def y(self, value: float) -> float:
        (low, high), (_, _, top, bottom) = self.y_range, self.margins
        height = self.size[1]
        return height - bottom - (value - low) / (high - low) * (height - top - bottom)

    def y_axis(self) -> list[str]:
        """Lines across at round values, and the values."""
        left, right = self.margins[0], self.size[0] - self.margins[1]
        parts = []
        for tick in ticks(*self.y_range):
            y = self.y(tick)
            parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(_text(left - 6, y + 4, plain_number(tick), "end"))
        return parts

    def x_axis(self, marks: Sequence[float], title: str = "") -> list[str]:
        """Values below the plane, and what they are of."""
        base, (left, right, _, _) = self.size[1] - self.margins[3] + 16, self.margins
        parts = [_text(self.x(mark), base, plain_number(mark)) for mark in marks]
        middle = (left + self.size[0] - right) / 2
        return [*parts, _text(middle, base + 16, title)] if title else parts


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="tick" text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


@dataclass(frozen=True)
class Axes:
    """What `line_chart` draws beside its lines: the name of the x axis, and where the axes end (None: where
    the values do)."""

    x_title: str = "epoch"
    x_range: Ends | None = None
    y_range: Ends | None = None


def line_chart(series: dict[str, Points], label: str, marked: float | None, axes: Axes = Axes()) -> str:
    """Lines with a legend above them; `marked` is the epoch whose weights were kept."""
    points = [point for each in series.values() for point in each]
    x_range = axes.x_range or bounds([x for x, _ in points])
    y_range = axes.y_range or bounds([y for _, y in points])
    frame = Frame((370, 230), (52, 12, 12, 42), x_range, y_range)
    marks = ticks(*x_range) if axes.x_range else [tick for tick in ticks(*x_range) if tick == int(tick)]
    parts = [svg(*frame.size, label), *frame.y_axis(), *frame.x_axis(marks, axes.x_title)]
    if marked is not None:
        at, bottom = f"{frame.x(marked):.1f}", frame.size[1] - frame.margins[3]
        parts.append(f'<line class="kept" x1="{at}" x2="{at}" y1="8" y2="{bottom}"/>')
    for number, line in enumerate(series.values()):
        places = [(frame.x(x), frame.y(y)) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="line s{number}" points="{path}"/>')
        parts += [_dot(x, y, number) for x, y in (places if len(places) <= 20 else places[-1:])]
    return f"{legend(series)}{''.join(parts)}</svg>"


def legend(names: Sequence[str] | dict[str, Points]) -> str:
    """The names of the lines, each behind a piece of its own."""
    keys = (
        f'<li><svg class="key" aria-hidden="true"><line class="line s{number}" x1="0" x2="22" y1="6" y2="6"/>'
        f"</svg>{escape(name)}</li>"
        for number, name in enumerate(names)
    )
    return f'<ul class="legend">{"".join(keys)}</ul>'


def _dot(x: float, y: float, series: int) -> str:
    return f'<circle class="dot s{series}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>'


def svg(width: float, height: float, label: str) -> str:
    """The opening tag; the chart is as wide as its place, but not so wide that its letters look too large."""
    size = f'viewBox="0 0 {width} {height}" style="max-width:{1.25 * width:.0f}px"'
    return f'<svg class="chart" {size} role="img" aria-label="{escape(label)}">'


def plain_number(value: float) -> str:
    """A round value as people write it, without an exponent where it needs none: 1,000,200."""
    return f"{value:,.10g}" if 1e-4 <= abs(value) < 1e9 or not value else f"{value:g}"


def bounds(values: list[float]) -> Ends:
    """Lowest and highest, set apart where they are equal."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two values, about so many."""
    raw = (high - low) / about
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= raw)
    return [
        round(step * n, 10) for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
