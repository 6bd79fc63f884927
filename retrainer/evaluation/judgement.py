"""The parts of report.html about the judgement: the gate's rules, slices, the test set."""

from __future__ import annotations

from typing import Any

from retrainer.evaluation import words
from retrainer.evaluation.words import Report
from retrainer.gate.chance import p_value
from retrainer.pages.charts import Range, range_chart
from retrainer.pages.page import escape, label_cell, measured, number_cell, quiet, section, table
from retrainer.texts import shortened

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
        + number_cell(measured(rule["value"]))
        + number_cell(measured(rule["bound"]))
        for rule in rules
    ]
    return section("The gate's rules", table(["rule", "outcome", "in words"], ["measured", "limit"], rows))


def _outcome(passed: bool) -> str:
    return f'<td class="{"holds" if passed else "fails"}">{"holds" if passed else "fails"}</td>'


def parts_section(report: Report) -> str:
    """Classes and slices beside the champion, those that fall most first."""
    parts = sorted(report["gate"].get("parts", ()), key=lambda one: -one["drop"])
    if not parts:
        return ""
    rows = [
        label_cell(f"{one['by']} = {shortened(one['name'], _TITLE_CHARACTERS)}")
        + _collapse(one)
        + "".join(
            map(
                number_cell,
                (
                    f"{one['rows']:,}",
                    words.number(one["candidate"], one["rows"]),
                    words.number(one["champion"], one["rows"]),
                    "–" if one["p_value"] is None else p_value(one["p_value"]),
                ),
            )
        )
        for one in parts
    ]
    heads = ["rows", "this model", "champion", "p"]
    shown = table(["class or slice", "outcome"], heads, rows[:_MOST_OPEN])
    folded = ""
    if len(rows) > _MOST_OPEN:
        more = table(["class or slice", "outcome"], heads, rows[_MOST_OPEN:])
        folded = f"<details><summary>Show the other {len(rows) - _MOST_OPEN:,}</summary>{more}</details>"
    about = (
        f"Classes by {parts_title(report)}, slices by {words.gate_title(report)}, on the compared rows; those"
        " that fell most come first. p: how often two equally good models would show such a fall in any of"
        " them. Only a fall beyond gate.max_drop is tested."
    )
    return section("Classes and slices beside the champion", quiet(about), shown, folded)


def parts_title(report: Report) -> str:
    titles = [one["title"] for one in report["gate"]["parts"] if one["by"] == "class"]
    return titles[0] if titles else words.gate_title(report)


def _collapse(one: dict[str, Any]) -> str:
    if not one["collapsed"]:
        return label_cell("too few rows" if one["too_few"] else "")
    return '<td class="holds">accepted</td>' if one["accepted"] else '<td class="fails">collapses</td>'


def slices_section(report: Report) -> str:
    """The gate's metric by the values of each slice, with its floors."""
    by_slice: dict[str, list[dict[str, Any]]] = {}
    for one in report["slices"]:
        by_slice.setdefault(one["by"], []).append(one)
    if not by_slice:
        return ""
    charts = [_slice(report, by, figures) for by, figures in by_slice.items()]
    bounds = any(words.floor_of(report, by) is not None for by in by_slice)
    what = words.gate_title(report)
    about = f"{what[:1].upper()}{what[1:]}, with {100 * report['confidence']:g}% intervals;"
    about += " the number after each value counts its test rows."
    higher = words.higher_is_better(report)
    about += f" The red mark is the gate's {'floor' if higher else 'ceiling'}." if bounds else ""
    return section("By slice", quiet(about), *charts)


def _slice(report: Report, by: str, figures: list[dict[str, Any]]) -> str:
    ranges = [
        Range(
            f"{shortened(one['name'], _TITLE_CHARACTERS)} · {one['rows']:,}",
            one["value"],
            one["low"],
            one["high"],
            words.number(one["value"], one["rows"]),
            own=True,
            floor=words.floor_of(report, by),
        )
        for one in figures
    ]
    drawn = range_chart(ranges, f"{words.gate_title(report)} by {by}", words.in_points(report))
    if len(figures) > _MOST_OPEN:
        drawn = f"<details><summary>Show all {len(figures)} values</summary>{drawn}</details>"
    return f"<figure><figcaption>{escape(by)}</figcaption>{drawn}</figure>"


def rows_section(report: Report) -> str:
    """Which rows judged, how often they did, and what the champion knew of them."""
    said = [words.uses(report), *words.changes(report), words.cost(report)]
    said.append(f"Training it cost: {words.training_cost(report)}.")
    return section("The test set, and what the model costs", *(f"<p>{escape(one)}</p>" for one in said))
