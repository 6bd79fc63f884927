"""The parts of report.html about the judgement: the gate's rules, slices, calibration, the test set."""

from __future__ import annotations

from typing import Any

from retrainer.evaluation import words
from retrainer.evaluation.words import Report
from retrainer.pages.charts import Range, range_chart, shortened
from retrainer.pages.page import escape, label_cell, number_cell, quiet, section, table
from retrainer.pages.reliability import reliability_chart

# More values than this are folded away.
_MOST_OPEN = 12
_TITLE_CHARACTERS = 28


def rules_section(report: Report) -> str:
    """What the gate asked, what was measured, and whether it holds."""
    rules = words.rules(report)
    if not rules:
        return ""
    rows = [
        label_cell(rule["name"])
        + _outcome(rule["passed"])
        + label_cell(rule["note"])
        + number_cell(words.measured(rule["value"]))
        + number_cell(words.measured(rule["bound"]))
        for rule in rules
    ]
    return section("The gate's rules", table(["rule", "", "in words"], ["measured", "bound"], rows))


def _outcome(passed: bool) -> str:
    return f'<td class="{"holds" if passed else "fails"}">{"holds" if passed else "fails"}</td>'


def slices_section(report: Report) -> str:
    """Accuracy by the values of each slice, with the gate's floors."""
    by_slice: dict[str, list[dict[str, Any]]] = {}
    for one in report["slices"]:
        by_slice.setdefault(one["by"], []).append(one)
    if not by_slice:
        return ""
    charts = [_slice(by, figures, words.floor_of(report, by)) for by, figures in by_slice.items()]
    floors = any(words.floor_of(report, by) is not None for by in by_slice)
    about = f"Accuracy, with {100 * report['confidence']:g}% intervals; behind each value its test rows."
    about += " The red mark is the gate's floor." if floors else ""
    return section("By slice", quiet(about), *charts)


def _slice(by: str, figures: list[dict[str, Any]], floor: float | None) -> str:
    ranges = [
        Range(
            f"{shortened(one['value'], _TITLE_CHARACTERS)} · {one['rows']:,}",
            one["accuracy"],
            one["low"],
            one["high"],
            words.number(one["accuracy"], one["rows"]),
            own=True,
            floor=floor,
        )
        for one in figures
    ]
    chart = f'<div class="scroll">{range_chart(ranges, f"accuracy by {by}")}</div>'
    if len(figures) > _MOST_OPEN:
        chart = f"<details><summary>Show all {len(figures)} values</summary>{chart}</details>"
    return f"<figure><figcaption>{escape(by)}</figcaption>{chart}</figure>"


def calibration_section(report: Report) -> str:
    """The reliability diagram, and the error with and without the temperature."""
    bins = [(one["rows"], one["confidence"], one["accuracy"]) for one in report["calibration"]["bins"]]
    about = (
        "Each dot holds the answers of about one confidence, larger for more of them. On the dashed line they"
        " are right as often as they are sure; below it the model is too sure of itself."
    )
    chart = f'<div class="scroll">{reliability_chart(bins, "confidence and accuracy")}</div>'
    return section("Calibration", f"<p>{escape(words.calibration(report))}</p>", chart, quiet(about))


def rows_section(report: Report) -> str:
    """Which rows judged, how often they did, and what the champion knew of them."""
    said = [words.uses(report), *words.changes(report), words.cost(report)]
    return section("The test set, and the model's cost", *(f"<p>{escape(one)}</p>" for one in said))
