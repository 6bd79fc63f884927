"""model_card.md: what is known of a judged model, from facts alone, for whoever decides to use it.

Every text from outside (labels, notes, names) passes through `plain`: the registry's page draws Markdown.
The order is that of importance: a registry that takes only so much text shows the beginning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from retrainer.evaluation import privacy, words
from retrainer.evaluation.told import told
from retrainer.evaluation.words import Report
from retrainer.need.words import at_twice, more_rows
from retrainer.pages.markdown import bullets, heading, plain, table
from retrainer.pages.page import measured
from retrainer.texts import plural


def model_card(report: Report) -> str:
    """Markdown. `report` is the content of metrics.json; the same gives the same text."""
    parts = [
        _head(report),
        _use(),
        _gate(report),
        _figures(report),
        _limits(report),
        _privacy(report),
        _need(report),
        _data(report),
        _checks(report),
        _slices(report),
        _identity(report),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _head(report: Report) -> list[str]:
    said, task = told(report), report["task"]
    about = plain(task["kind"]) + (", several labels a row" if task["multi_label"] else "")
    if report["labels"]:
        about += f", {plural(len(report['labels']), 'class', 'classes')}"
    return [
        f"# {plain(report['name'] or report['start'] or 'Model')}",
        "",
        f"{about}; {plain(report['start'])}.",
        "",
        f"**{said.badge.capitalize()}**, judged on {plural(report['rows'], 'test row')}:",
        "",
        *bullets(plain(reason) for reason in said.reasons),
        "",
        plain(f"{said.follows}."),
    ]


def _use() -> list[str]:
    return [
        heading("How to use it"),
        "",
        "In the project that made it: `make predict` and `make serve`. Elsewhere, once it is registered:"
        " download the version's files (`mlflow artifacts download -u models:/NAME/VERSION -d FOLDER`), then"
        " `python FOLDER/use_me.py`, whose first lines name the packages that it needs.",
    ]


def _gate(report: Report) -> list[str]:
    rows = [
        (
            plain(rule["name"]),
            measured(rule["value"]),
            measured(rule["bound"]),
            "holds" if rule["passed"] else "**fails**",
            plain(rule["note"]),
        )
        for rule in words.rules(report)
    ]
    heads = ("rule", "measured", "bound", "", "in words")
    return [heading("The gate's rules"), "", *table(heads, rows)] if rows else []


def _figures(report: Report) -> list[str]:
    percent = f"{100 * report['confidence']:g}% interval"
    rows = [
        ("this model", plain(words.title(report, name)), *_figure(report["metrics"][name]))
        for name in words.ordered(report)
    ]
    for title, one in words.opponents(report):
        rows.append(
            (
                plain(title),
                plain(words.gate_title(report)),
                *_figure(one["metrics"][words.gate_metric(report)]),
            )
        )
    return [
        heading("Figures"),
        "",
        *table(("on the same rows", "figure", "value", percent), rows),
        "",
        *(plain(note) for note in report["details"].get("notes", ())),
        plain(words.cost(report)),
        plain(f"What the training cost: {words.training_cost(report)}."),
    ]


def _figure(figure: dict[str, Any]) -> tuple[str, str]:
    return words.number(figure["value"], figure["n"]), words.interval(figure)


def _limits(report: Report) -> list[str]:
    data, champion = report["data"], report["champion"]
    said = [f"{words.detectable(report)}.", words.uses(report), *words.changes(report)]
    said += words.notes(report)
    if report["no_baseline"]:
        said.append(f"There is no cheap baseline: {report['no_baseline']}.")
    if champion and not champion["compared"] and not champion["same"]:
        said.append(f"It was not compared with the champion: {champion['note']}.")
    if data["cut_rows"]:
        cut = plural(data["cut_rows"], "test row was", "test rows were")
        said.append(f"{cut} cut to {data['max_length']} tokens: the model did not see the rest.")
    said += [*report["details"].get("limits", ()), words.attributions(report)]
    if not report["slices"]:
        said.append("No parts of the test rows were looked at on their own (evaluation.slices is empty).")
    said.append("Rows from elsewhere than this dataset were not tested.")
    return [heading("Limits"), "", *bullets(plain(one) for one in said)]


def _privacy(report: Report) -> list[str]:
    said = [*privacy.of_training(report), privacy.of_attack(report)]
    return [heading("Privacy"), "", *bullets(plain(f"{one}.") for one in said if one)] if any(said) else []


def _need(report: Report) -> list[str]:
    """What more rows would give, as the curve of a cheap head tells it; nothing where there is none."""
    need = words.need(report)
    if "missing" in need:
        return []
    head = f"Of {plain(need['head'])} on the same rows, not of this model"
    said = f"{head}: {plain(more_rows(need))}; {plain(at_twice(need))}."
    return [heading("How many more rows"), "", said]


def _data(report: Report) -> list[str]:
    data = report["data"]
    counts = ", ".join(f"{plural(rows, 'row')} {plain(split)}" for split, rows in data["rows"].items())
    lines = [f"{counts}; content sha256 `{report['dataset_sha256']}`."]
    if dropped := data["dropped"]:
        reasons = (f"{rows:,} {plain(reason)}" for reason, rows in dropped.items())
        lines.append(f"Left out: {', '.join(reasons)}.")
    return [heading("Data"), "", *lines]


def _checks(report: Report) -> list[str]:
    found = [check for check in report["data"]["checks"] if check["count"]]
    if not found:
        return []
    rows = ((plain(c["name"]), f"{c['count']:,}", plain(c.get("note", ""))) for c in found)
    return [heading("Checks that warned"), "", *table(("check", "found", "in words"), rows)]


def _slices(report: Report) -> list[str]:
    if not report["slices"]:
        return []
    rows: Iterable[tuple[str, ...]] = (
        (
            plain(one["by"]),
            plain(one["name"]),
            f"{one['rows']:,}",
            words.number(one["value"], one["rows"]),
            f"{words.number(one['low'], one['rows'])} – {words.number(one['high'], one['rows'])}",
        )
        for one in report["slices"]
    )
    heads = ("slice", "value", "rows", plain(words.gate_title(report)), "interval")
    return [heading("Slices"), "", *table(heads, rows)]


def _identity(report: Report) -> list[str]:
    champion = report["champion"]
    then = f"version {plain(champion['version'])}, `{champion['model_sha256']}`" if champion else "none"
    facts = {
        "model": f"`{report['model_sha256']}`",
        "test rows": f"`{report['test_set']['sha256']}`",
        "champion then": then,
    }
    return [heading("Identity"), "", *bullets(f"{name}: {value}" for name, value in facts.items())]
