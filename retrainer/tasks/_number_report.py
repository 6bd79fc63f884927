"""What a report says of regression beyond the common part: `details` of metrics.json, and its panels.

    points     [[target, prediction]] of at most 500 test rows, evenly over all
    residuals  {"edges": [B + 1], "counts": [B]}: prediction minus target
    ranges     [{"low", "high", "rows", "mean_absolute_error", "mean_residual"}]: quarters of the test rows,
               by their target
    attributions    see `_explained.py`; nearest    see `_nearest_rows.py`
    worst      [{"row", "where", "target", "prediction", "text"}]: largest errors first; `text` where there is
               one

Legend: N rows, B bins.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from retrainer.pages.page import escape, number_cell, quiet, section, table
from retrainer.tasks._embedded import Embedded
from retrainer.tasks._explained import NO_ROWS, Chosen, attributions, figure, sample_of
from retrainer.tasks._explained_panels import explained_section
from retrainer.tasks._nearest_rows import nearest_of

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

_MOST_POINTS = 500
_BINS = 21
_PARTS = 4
_FEWEST_ROWS = 20
_WORST = 10
_MOST_CHARACTERS = 200
_WIDTH, _HEIGHT, _EDGE = 370, 300, 46


def details(judged: Judged) -> dict[str, Any]:
    target = np.asarray(judged.test["target"].to_numpy(), np.float64)
    predicted = np.asarray(judged.predictions["prediction"].to_numpy(), np.float64)
    residuals = predicted - target
    worst = _worst(judged, target, predicted)
    attributed = _explained(judged, residuals, [one["row"] for one in worst])
    low, high = _bounds(judged)
    return {
        "points": _points(target, predicted),
        "residuals": _binned(residuals),
        "ranges": _ranges(target, residuals),
        "worst": worst,
        "attributions": attributed,
        "nearest": _nearest(judged, [one["row"] for one in worst]),
        "numbers": figure(attributed),
        "notes": [f"In the mean the predictions are {_signed(float(residuals.mean()))} beside the targets."],
        "limits": [
            f"Its training rows have targets from {low:.4g} to {high:.4g}; beyond these nothing is known.",
        ],
    }


def _explained(judged: Judged, residuals: np.ndarray, worst: list[int]) -> dict[str, Any]:
    """Attributions of a sample of the rows, and of those with the largest errors."""
    if not judged.evaluation.explain:
        return attributions(judged, NO_ROWS)
    others = np.setdiff1d(np.arange(len(residuals)), worst)
    sample = sample_of(others, judged.evaluation.explain)
    rows = np.concatenate([sample, np.array(worst, np.int64)])
    contrasts = judged.predictor.task.contrasts(judged.predictions.take(pa.array(rows)))
    middle = float(np.median(judged.train["target"].to_numpy()))
    trivial = np.abs(judged.test["target"].to_numpy() - middle)
    better, worse = (int(one.sum()) for one in (np.abs(residuals) < trivial, np.abs(residuals) > trivial))
    return attributions(judged, Chosen(rows, contrasts, len(sample), better, worse))


def _nearest(judged: Judged, rows: list[int]) -> list[dict[str, Any]]:
    return nearest_of(Embedded(judged), rows) if judged.evaluation.explain else []


def _bounds(judged: Judged) -> tuple[float, float]:
    numbers = judged.train["target"].to_numpy()
    return float(numbers.min()), float(numbers.max())


def _points(target: np.ndarray, predicted: np.ndarray) -> list[list[float]]:
    count = min(_MOST_POINTS, len(target))
    rows = np.linspace(0, len(target) - 1, count).round().astype(int)
    return [[float(target[row]), float(predicted[row])] for row in rows]


def _binned(residuals: np.ndarray) -> dict[str, Any]:
    """Around 0, as far as the largest."""
    furthest = float(np.abs(residuals).max(initial=0.0)) or 1.0
    counts, edges = np.histogram(residuals, _BINS, (-furthest, furthest))
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _ranges(target: np.ndarray, residuals: np.ndarray) -> list[dict[str, Any]]:
    """Equal targets stay together, so there may be fewer parts."""
    parts = max(1, min(_PARTS, len(target) // _FEWEST_ROWS))
    edges = np.unique(np.quantile(target, np.arange(1, parts + 1) / parts, method="higher"))
    places = np.searchsorted(edges, target)
    rows = []
    for part in np.unique(places):
        mine = places == part
        rows.append(
            {
                "low": float(target[mine].min()),
                "high": float(target[mine].max()),
                "rows": int(mine.sum()),
                "mean_absolute_error": float(np.abs(residuals[mine]).mean()),
                "mean_residual": float(residuals[mine].mean()),
            }
        )
    return rows


def _worst(judged: Judged, target: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    columns = judged.test.column_names
    rows = []
    for row in np.argsort(-np.abs(predicted - target), kind="stable")[:_WORST].tolist():
        origin = judged.test["origin"][row].as_py() if "origin" in columns else None
        text = judged.test["text"][row].as_py() if "text" in columns else None
        rows.append(
            {
                "row": row,
                "where": PurePath(origin or f"row {row}").name,
                "target": float(target[row]),
                "prediction": float(predicted[row]),
                **({"text": text[:_MOST_CHARACTERS]} if text else {}),
            }
        )
    return rows


def panels(judged: Judged, found: dict[str, Any]) -> list[str]:
    """Sections of report.html."""
    note = "Each point is a test row; on the line a prediction is right. Bars: predictions minus targets."
    drawn = (_scatter(found["points"]), _bars(found["residuals"]))
    charts = f'<div class="pair">{"".join(f"<div>{one}</div>" for one in drawn)}</div>'
    return [
        section("Predicted against true", charts, quiet(note), *(quiet(one) for one in found["notes"])),
        section("By the target", _ranges_table(found["ranges"])),
        section("Largest errors", _worst_table(found["worst"])),
        explained_section(judged, found, [_of_nearest(judged, one) for one in found["nearest"]]),
    ]


def _of_nearest(judged: Judged, near: dict[str, Any]) -> str:
    targets = [judged.train["target"][row].as_py() for row, _ in near["rows"]]
    return f"The mean target of the {len(targets)} nearest training rows is {np.mean(targets):.4g}."


def _signed(value: float) -> str:
    return f"{value:+.4g}"


def _scatter(points: list[list[float]]) -> str:
    """Both axes have one scale."""
    values = [value for point in points for value in point]
    low, high = min(values), max(values)
    spread = (high - low) or 1.0

    def x(value: float) -> float:
        return _EDGE + (value - low) / spread * (_WIDTH - 2 * _EDGE)

    def y(value: float) -> float:
        return _HEIGHT - _EDGE - (value - low) / spread * (_HEIGHT - 2 * _EDGE)

    line = f'<line class="grid" x1="{x(low):.1f}" y1="{y(low):.1f}" x2="{x(high):.1f}" y2="{y(high):.1f}"/>'
    dots = "".join(
        f'<circle class="dot s0" fill-opacity=".5" cx="{x(true):.1f}" cy="{y(predicted):.1f}" r="2.5">'
        f"<title>{true:.4g} → {predicted:.4g}</title></circle>"
        for true, predicted in points
    )
    ticks = "".join(
        _text(x(value), _HEIGHT - _EDGE + 18, f"{value:.4g}")
        + _text(_EDGE - 6, y(value) + 4, f"{value:.4g}", "end")
        for value in (low, high)
    )
    names = _text(_WIDTH / 2, _HEIGHT - 8, "target") + _text(4, _EDGE - 22, "prediction", "start")
    return _svg("predicted against true", line + dots + ticks + names)


def _bars(residuals: dict[str, Any]) -> str:
    counts, edges = residuals["counts"], residuals["edges"]
    step, base = (_WIDTH - 2 * _EDGE) / len(counts), _HEIGHT - _EDGE
    parts = []
    for number, count in enumerate(counts):
        height = (base - _EDGE) * count / max(1, *counts)
        place = f'x="{_EDGE + number * step:.1f}" y="{base - height:.1f}" width="{step - 1:.1f}"'
        span = f"{edges[number]:.4g} to {edges[number + 1]:.4g}: {count:,} rows"
        parts.append(f'<rect class="right" {place} height="{height:.1f}"><title>{span}</title></rect>')
    for x, value in ((_EDGE, edges[0]), (_WIDTH / 2, 0.0), (_WIDTH - _EDGE, edges[-1])):
        parts.append(_text(x, base + 18, _signed(value)))
    parts.append(f'<line class="grid" x1="{_EDGE}" x2="{_WIDTH - _EDGE}" y1="{base}" y2="{base}"/>')
    return _svg("residuals", "".join(parts))


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="tick" text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{text}</text>'


def _svg(label: str, inside: str) -> str:
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}"'
    return f'<svg {size} role="img" aria-label="{label}">{inside}</svg>'


def _ranges_table(ranges: list[dict[str, Any]]) -> str:
    rows = (
        f"<td>{one['low']:.4g} to {one['high']:.4g}</td>"
        + number_cell(f"{one['rows']:,}")
        + number_cell(f"{one['mean_absolute_error']:.4g}")
        + number_cell(_signed(one["mean_residual"]))
        for one in ranges
    )
    return table(["target"], ["rows", "mean absolute error", "mean of prediction minus target"], rows)


def _worst_table(worst: list[dict[str, Any]]) -> str:
    rows = (
        f'<td dir="auto">{escape(one.get("text", ""))}</td><td>{escape(one["where"])}</td>'
        + number_cell(f"{one['target']:.4g}")
        + number_cell(f"{one['prediction']:.4g}")
        for one in worst
    )
    return table(["", "where"], ["target", "prediction"], rows)
