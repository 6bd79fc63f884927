"""Charts as inline SVG: no script, no outside file, colours by CSS class so that light and dark both work.

Every text from outside goes through `escape`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from retrainer.pages.page import escape
from retrainer.texts import shortened

Points = Sequence[tuple[float, float]]


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
    left, right, line, width = 268, 76, 34, 880
    start, end = _axis(rows, shares)
    height = len(rows) * line + 30

    def x(value: float) -> float:
        return left + (value - start) / (end - start) * (width - left - right)

    parts = [svg(width, height, label)]
    for tick in ticks(start, end):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="4" y2="{height - 24}"/>')
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{x(tick):.1f}" y="{height - 6}">{tick:g}</text>'
        )
    for number, row in enumerate(rows):
        y, kind = number * line + line / 2 + 2, "own" if row.own else "other"
        parts.append(
            f'<text class="name {kind}" x="0" y="{y + 4:.1f}">{escape(shortened(row.title, 36))}</text>'
        )
        parts.append(
            f'<line class="range {kind}" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}"/>'
        )
        parts.append(f'<circle class="{kind}" cx="{x(row.value):.1f}" cy="{y}" r="5.5"/>')
        if row.floor is not None:
            at = f"{x(row.floor):.1f}"
            parts.append(f'<line class="floor" x1="{at}" x2="{at}" y1="{y - 12}" y2="{y + 12}"/>')
        parts.append(
            f'<text class="value" text-anchor="end" x="{width}" y="{y + 4:.1f}">{escape(row.shown)}</text>'
        )
    return "".join([*parts, "</svg>"])


def _axis(rows: list[Range], shares: bool) -> tuple[float, float]:
    """Where it begins and ends: a little beyond the intervals and the floors."""
    ends = [end for row in rows for end in (row.low, row.high, row.floor) if end is not None]
    if shares:  # begins and ends on a tenth; a word error rate may lie above 1
        end = max(1.0, math.ceil(max(ends) * 10) / 10)
        return min(max(0.0, math.floor(min(ends) * 10 - 0.3) / 10), end - 0.1), end
    low, high = bounds(ends)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


@dataclass(frozen=True)
class Frame:
    """The plane of a chart: `x_range` and `y_range` fill the size, pixels, but for the margins (left, right,
    top, bottom)."""

    size: tuple[int, int]
    margins: tuple[int, int, int, int]
    x_range: tuple[float, float]
    y_range: tuple[float, float]

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
            parts.append(
                f'<text class="tick" text-anchor="end" x="{left - 6}" y="{y + 4:.1f}">{tick:g}</text>'
            )
        return parts


def line_chart(series: dict[str, Points], label: str, marked: float | None) -> str:
    """Lines over epochs, each with its name in the legend; `marked` is the epoch whose weights were kept."""
    width, height, left, top, bottom = 370, 230, 44, 30, 28
    everything = [point for points in series.values() for point in points]
    x_range, y_range = (bounds([point[axis] for point in everything]) for axis in (0, 1))
    frame = Frame((width, height), (left, 12, top, bottom), x_range, y_range)
    x, y = frame.x, frame.y
    parts = [svg(width, height, label), *frame.y_axis()]
    for tick in (t for t in ticks(*x_range) if t == int(t)):
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{x(tick):.1f}" y="{height - 8}">{tick:g}</text>'
        )
    if marked is not None:
        at = f"{x(marked):.1f}"
        parts.append(f'<line class="kept" x1="{at}" x2="{at}" y1="{top - 4}" y2="{height - bottom}"/>')
    across = float(left)
    for number, (name, points) in enumerate(series.items()):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        parts.append(f'<polyline class="line s{number}" points="{path}"/>')
        parts += [_dot(x(a), y(b), number) for a, b in (points if len(points) <= 20 else points[-1:])]
        parts.append(f'<line class="line s{number}" x1="{across}" x2="{across + 16}" y1="12" y2="12"/>')
        parts.append(f'<text class="legend" x="{across + 21}" y="16">{escape(name)}</text>')
        across += 34 + 6.6 * len(name)
    return "".join([*parts, "</svg>"])


def _dot(x: float, y: float, series: int) -> str:
    return f'<circle class="dot s{series}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>'


def heat_map(labels: Sequence[str], counts: Sequence[Sequence[int]], label: str) -> str:
    """Confusion counts: a row per true class, shaded by its share of that class; errors in another colour."""
    cell = max(26, min(52, 640 // len(labels)))
    name = min(170, 24 + 7 * max(len(shortened(text, 22)) for text in labels))
    width, top = name + cell * len(labels) + 8, name - 10
    parts = [svg(width, top + cell * len(labels) + 6, label, fixed=True)]
    for number, text in enumerate(labels):
        short, middle = escape(shortened(text, 22)), number * cell + cell / 2
        parts.append(
            f'<text class="tick" text-anchor="end" x="{name - 8}" y="{top + middle + 4}">{short}</text>'
        )
        at = f"{name + middle + 4:.1f},{top - 8}"
        parts.append(f'<text class="tick" transform="translate({at}) rotate(-55)">{short}</text>')
    for true, row in enumerate(counts):
        for given, count in enumerate(row):
            tooltip = f"{labels[true]} answered as {labels[given]}: {count} of {sum(row)}"
            corner = (name + given * cell, top + true * cell)
            parts.append(_cell(corner, cell, count, sum(row), true == given, tooltip))
    return "".join([*parts, "</svg>"])


def _cell(corner: tuple[float, float], size: int, count: int, total: int, right: bool, tooltip: str) -> str:
    x, y = corner
    box = f'x="{x}" y="{y}" width="{size - 2}" height="{size - 2}" rx="3"'
    empty = f'<rect class="cell" {box}/>'
    if not count:
        return empty
    # A few errors in a large class must still be seen.
    strength = 0.15 + 0.85 * (count / total) ** 0.7
    kind, over = "right" if right else "wrong", " over" if strength > 0.6 else ""
    place = f'text-anchor="middle" x="{x + size / 2 - 1}" y="{y + size / 2 + 3}"'
    return (
        f'{empty}<rect class="{kind}" {box} fill-opacity="{strength:.2f}">'
        f"<title>{escape(tooltip)}</title></rect>"
        f'<text class="count{over}" {place}>{count}</text>'
    )


def svg(width: float, height: float, label: str, fixed: bool = False) -> str:
    """The opening tag; the chart is as wide as the page, or `fixed` in size."""
    size = f'width="{width}"' if fixed else 'class="wide"'
    return f'<svg viewBox="0 0 {width} {height}" {size} role="img" aria-label="{escape(label)}">'


def bounds(values: list[float]) -> tuple[float, float]:
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
