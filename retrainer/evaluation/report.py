"""report.html: everything evaluate found. Labels and texts are data: every one is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from retrainer.evaluation import privacy, words
from retrainer.evaluation.judgement import parts_section, rows_section, rules_section, slices_section
from retrainer.evaluation.told import told
from retrainer.evaluation.words import Report
from retrainer.need.words import at_twice, more_rows
from retrainer.pages.charts import Points, Range, line_chart, range_chart
from retrainer.pages.learning_curve import learning_curve_chart
from retrainer.pages.page import document, escape, label_cell, number_cell, quiet, section, table


def render(report: Report, history: list[dict[str, Any]], panels: Sequence[str] = ()) -> str:
    """The page. `report` is the content of metrics.json, `history` the model's figures per epoch, `panels`
    the task's own sections.

    The same arguments give the same text.
    """
    sections = [
        _verdict(report),
        rules_section(report),
        _metrics(report),
        _opponents(report),
        parts_section(report),
        slices_section(report),
        rows_section(report),
        _privacy(report),
        _curves(history),
        *panels,
        _need(report),
        _settings(report),
        _facts(report),
    ]
    return document(_title(report), sections)


def _title(report: Report) -> str:
    return f"{report['name'] or report['start']}: {report['rows']:,} test rows"


def _verdict(report: Report) -> str:
    digest, said = report["model_sha256"], told(report)
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in said.reasons)
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in words.notes(report))
    passing = f" What would let it pass: {'; '.join(said.to_pass)}." if said.to_pass else ""
    classes = f" · {len(report['labels']):,} classes" if report["labels"] else ""
    about = f"{report['rows']:,} test rows{classes} · {report['start']}"
    return (
        f'<div class="top"><div><h1>{escape(report["name"] or report["start"])}</h1>'
        f'<p class="quiet">{escape(about)} · model <code>{escape(digest[:12])}</code></p></div>'
        f'<span class="verdict {said.kind}">{escape(said.badge)}</span></div>'
        + section(
            said.why,
            f'<ul class="reasons">{reasons}</ul>',
            f"<p>{escape(f'{said.follows}.{passing}')}</p>",
            notes,
            quiet(f"{words.detectable(report)}."),
        )
        + _data(report)
        + section("What the training cost", f"<p>{escape(words.training_cost(report))}.</p>")
    )


def _data(report: Report) -> str:
    """In one paragraph what the checks of the data found; the page that shows it lies beside this one."""
    said = f"{words.data(report)}. "
    where = "All of it: <code>findings/report.html</code> of the same run; on Kubeflow, preprocess shows it."
    notes = "".join(f'<p class="note">{escape(one)}.</p>' for one in words.unknown_data(report))
    return section("The data", f"<p>{escape(said)}{where}</p>", notes)


def _metrics(report: Report) -> str:
    cards = []
    for name in words.ordered(report):
        figure = report["metrics"][name]
        cards.append(
            f'<div class="card"><span>{escape(words.title(report, name))}</span>'
            f"<b>{words.number(figure['value'], figure['n'])}</b><span>{words.interval(figure)}</span></div>"
        )
    about = f"With {100 * report['confidence']:g}% intervals."
    lower = [n for n in words.ordered(report) if not report["about"][n]["higher_is_better"]]
    if lower:
        about += f" For {' and '.join(words.title(report, name) for name in lower)} less is better."
    return section("On the test rows", f'<div class="cards">{"".join(cards)}</div>', quiet(about))


def _opponents(report: Report) -> str:
    metric, title = words.gate_metric(report), words.gate_title(report)
    ranges = [_range("this model", report["metrics"][metric], own=True)]
    rows, notes = [], []
    for name, one in words.opponents(report):
        figure = one["metrics"][metric]
        ranges.append(_range(name, figure))
        shown = (words.number(figure["value"], figure["n"]), words.gain(report, one["difference"]))
        rows.append(label_cell(name) + "".join(map(number_cell, (*shown, words.p_value(one["p_value"])))))
        notes += [f"{name}: {one['note']}."] if one["note"] else []
    notes += [f"No cheap baseline: {report['no_baseline']}."] if report["no_baseline"] else []
    champion = report["champion"]
    notes += [f"Champion: {champion['note']}."] if champion and not champion["compared"] else []
    about = (
        "p: how often a model that is no better would do as well against it on these rows "
        f"(one-sided {_tests(report)}). The baselines are fitted on the training rows."
    )
    chart = range_chart(ranges, f"{title} with intervals", words.in_points(report))
    return section(
        "Against the others on the same rows",
        f'<div class="scroll">{chart}</div>',
        table(["compared with"], [title, "the model is better by", "p"], rows),
        quiet(about),
        *map(quiet, notes),
    )


def _tests(report: Report) -> str:
    """The tests behind the p-values: the exact one counts rows that one model alone has right."""
    exact = {one["better"] is not None for _, one in words.opponents(report)} or {report["gate"]["share"]}
    names = {True: "exact McNemar test", False: "paired bootstrap"}
    return " or ".join(names[kind] for kind in sorted(exact, reverse=True))


def _range(title: str, figure: dict[str, Any], own: bool = False) -> Range:
    shown = words.number(figure["value"], figure["n"])
    return Range(title, figure["value"], figure["low"], figure["high"], shown, own)


def _privacy(report: Report) -> str:
    said = [*privacy.of_training(report), privacy.of_attack(report)]
    about = (
        "The attack takes the row with the smaller loss for a training row. Stronger ones are known: a small"
        " figure proves nothing, a great one means that the answers give rows away."
    )
    lines = "".join(f"<li>{escape(one)}</li>" for one in said if one)
    return section("Privacy", f"<ul>{lines}</ul>", quiet(about)) if lines else ""


def _curves(history: list[dict[str, Any]]) -> str:
    losses = _series(history, {"train_loss": "training loss", "validation_loss": "validation loss"})
    names = dict.fromkeys(name for entry in history for name in entry if name.startswith("validation_"))
    others = [name for name in names if name != "validation_loss"]
    each = {_titled(n): _series(history, {n: n.replace("_", " ")}) for n in others}
    kept = next((float(entry["epoch"]) for entry in history if entry.get("kept") and "epoch" in entry), None)
    charts = [(f"{name} by epoch", series) for name, series in ({"Loss": losses} | each).items() if series]
    if not charts:
        return ""
    figures = "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{line_chart(series, title, kept)}</figure>"
        for title, series in charts
    )
    note = "" if kept is None else quiet(f"Dashed: epoch {kept:g}, whose weights were kept.")
    return section("Training", f'<div class="pair">{figures}</div>', note)


def _need(report: Report) -> str:
    """The learning curve of the cheap head; nothing where there is none."""
    need = words.need(report)
    if "missing" in need:
        return ""
    title = words.gate_title(report)
    about = (
        f"This curve is of a cheap head ({need['head']}), not of the model above: it says whether rows of"
        " this kind still teach something. Each dot is one fit to a random part of the training rows, the"
        " line an inverse power law, the bar at its end the interval of one fit to twice the rows. make"
        " curve trains this recipe's own model on parts of the rows."
    )
    chart = f'<div class="scroll">{learning_curve_chart(need, f"{title} by training rows")}</div>'
    said = "".join(f"<p>{escape(one)}.</p>" for one in (_capital(more_rows(need)), _capital(at_twice(need))))
    return section("How many more rows", said, chart, quiet(about))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _titled(name: str) -> str:
    """`validation_accuracy` → Accuracy."""
    return name.removeprefix("validation_").replace("_", " ").capitalize()


def _series(history: list[dict[str, Any]], names: dict[str, str]) -> dict[str, Points]:
    """(epoch, value) of each named figure that the history has; an own trainer's history may have none."""
    found = {
        title: [
            (float(entry.get("epoch", number + 1)), float(entry[name]))
            for number, entry in enumerate(history)
            if isinstance(entry.get(name), int | float) and math.isfinite(entry[name])
        ]
        for name, title in names.items()
    }
    return {title: points for title, points in found.items() if points}


def _settings(report: Report) -> str:
    """What the model was trained by, folded away."""
    shown = report.get("settings", {})  # a report of an older version has none
    if not shown:
        return ""
    rows = "".join(
        f"<dt>{escape(key)}</dt><dd><code>{escape(text)}</code></dd>" for key, text in shown.items()
    )
    folded = f'<details><summary>Show all {len(shown)}</summary><dl class="facts">{rows}</dl></details>'
    return section("What it was trained by", folded, quiet("All other settings of these are off or empty."))


def _facts(report: Report) -> str:
    champion = report["champion"]
    facts = {
        "model_sha256": report["model_sha256"],
        "dataset content sha256": report["dataset_sha256"],
        "test rows sha256": report["test_set"]["sha256"],
        "task": report["task"]["kind"] + (", multi-label" if report["task"]["multi_label"] else ""),
        "champion then": f"version {champion['version']}, {champion['model_sha256']}" if champion else "none",
    }
    rows = "".join(
        f"<dt>{escape(key)}</dt><dd><code>{escape(text)}</code></dd>" for key, text in facts.items()
    )
    # Where there are attributions, the task's own sections say what their test found.
    none = "" if report["details"].get("attributions", {}).get("rows") else quiet(words.attributions(report))
    return section("Identity", f'<dl class="facts">{rows}</dl>', none)
