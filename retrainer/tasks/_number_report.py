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

from retrainer.pages.charts import Frame, bounds, svg, ticks
from retrainer.pages.page import escape, measured, number_cell, quiet, section, table
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
_SIZE, _MARGINS = (370, 300), (70, 14, 14, 42)


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
        "notes": [_of_the_mean(float(residuals.mean()))],
        "limits": [
            f"Its training rows have targets from {measured(low)} to {measured(high)}; beyond these nothing"
            " is known.",
        ],
    }


def _of_the_mean(residual: float) -> str:
    if not residual:
        return "On average the predictions are neither too high nor too low."
    return (
        f"On average the predictions are {measured(abs(residual))} too {'high' if residual > 0 else 'low'}."
    )


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
    charts = [
        ("Predictions over true values: on the line they are right", _scatter(found["points"])),
        ("Prediction minus true value: how many test rows", _bars(found["residuals"])),
    ]
    drawn = "".join(f"<figure><figcaption>{title}</figcaption>{chart}</figure>" for title, chart in charts)
    notes = (quiet(one) for one in found["notes"])
    return [
        section("Predicted against true", f'<div class="pair">{drawn}</div>', *notes),
        section("By size of the true value", _ranges_table(found["ranges"])),
        section("Largest errors", _worst_table(found["worst"])),
        explained_section(judged, found, [_of_nearest(judged, one) for one in found["nearest"]]),
    ]


def _of_nearest(judged: Judged, near: dict[str, Any]) -> str:
    targets = [judged.train["target"][row].as_py() for row, _ in near["rows"]]
    return (
        f"The {len(targets)} most similar training rows have {measured(float(np.mean(targets)))} on average."
    )


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{measured(value)}"


def _scatter(points: list[list[float]]) -> str:
    """Both axes have one scale."""
    ends = bounds([value for point in points for value in point])
    frame = Frame(_SIZE, _MARGINS, ends, ends)
    (left, bottom), (right, top) = ((frame.x(end), frame.y(end)) for end in ends)
    line = f'<line class="kept" x1="{left:.1f}" y1="{bottom:.1f}" x2="{right:.1f}" y2="{top:.1f}"/>'
    dots = "".join(
        f'<circle class="dot s0" fill-opacity=".5" r="2.5"'
        f' cx="{frame.x(true):.1f}" cy="{frame.y(predicted):.1f}">'
        f"<title>{measured(true)} → {measured(predicted)}</title></circle>"
        for true, predicted in points
    )
    axes = "".join([*frame.y_axis(), *frame.x_axis(ticks(*ends, 4), "true value")])
    return f"{svg(*_SIZE, 'predictions over true values')}{axes}{line}{dots}</svg>"


def _bars(residuals: dict[str, Any]) -> str:
    counts, edges = residuals["counts"], residuals["edges"]
    ends = (float(edges[0]), float(edges[-1]))
    frame = Frame(_SIZE, _MARGINS, ends, (0.0, float(max(1, *counts))))
    parts = [*frame.y_axis(), *frame.x_axis(ticks(*ends, 4), "prediction minus true value")]
    for number, count in enumerate(counts):
        left, right, top = frame.x(edges[number]), frame.x(edges[number + 1]), frame.y(count)
        place = f'x="{left:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}"'
        span = f"{measured(edges[number])} to {measured(edges[number + 1])}: {count:,} rows"
        height = f'height="{frame.y(0) - top:.1f}"'
        parts.append(f'<rect class="right" {place} {height}><title>{span}</title></rect>')
    return f"{svg(*_SIZE, 'predictions minus true values')}{''.join(parts)}</svg>"


def _ranges_table(ranges: list[dict[str, Any]]) -> str:
    rows = (
        f"<td>{measured(one['low'])} to {measured(one['high'])}</td>"
        + number_cell(f"{one['rows']:,}")
        + number_cell(measured(one["mean_absolute_error"]))
        + number_cell(_signed(one["mean_residual"]))
        for one in ranges
    )
    heads = ["test rows", "mean absolute error", "mean of prediction minus true value"]
    return table(["true value"], heads, rows)


def _worst_table(worst: list[dict[str, Any]]) -> str:
    texts = ["text"] if any("text" in one for one in worst) else []
    rows = (
        "".join(f'<td dir="auto">{escape(one.get(name, ""))}</td>' for name in texts)
        + f"<td>{escape(one['where'])}</td>"
        + number_cell(measured(one["target"]))
        + number_cell(measured(one["prediction"]))
        for one in worst
    )
    return table([*texts, "where"], ["true value", "prediction"], rows)
