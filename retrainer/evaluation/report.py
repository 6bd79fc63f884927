"""report.html: everything evaluate found. Labels and texts are data: every one is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from retrainer.evaluation import words
from retrainer.evaluation.classes import confusion_section, per_class_section
from retrainer.evaluation.doubts import LABELS, LEAKS, NO_DOUBTS, Doubts
from retrainer.evaluation.judgement import (
    calibration_section,
    rows_section,
    rules_section,
    slices_section,
)
from retrainer.evaluation.mistakes import Mistake
from retrainer.evaluation.words import Report
from retrainer.pages.charts import Points, Range, line_chart, range_chart
from retrainer.pages.page import document, escape, label_cell, number_cell, quiet, section, table
from retrainer.pages.pairs import drawn_pairs


def render(
    report: Report,
    history: list[dict[str, Any]],
    mistakes: list[Mistake],
    doubts: Doubts = NO_DOUBTS,
) -> str:
    """The page. `report` is the content of metrics.json, `history` the model's figures per epoch,
    `doubts` the rows to look at again.

    The same arguments give the same text.
    """
    sections = [
        _verdict(report),
        rules_section(report),
        _metrics(report),
        _rivals(report),
        slices_section(report),
        calibration_section(report),
        rows_section(report),
        _curves(history),
        confusion_section(report),
        _mistakes(mistakes, report),
        _doubted(doubts),
        _leaks(doubts),
        per_class_section(report),
        _facts(report),
    ]
    return document(_title(report), sections)


def _title(report: Report) -> str:
    return f"{report['name'] or report['start']}: {report['rows']:,} test rows"


def _verdict(report: Report) -> str:
    gate, digest = report["gate"], report["model_sha256"]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in gate["reasons"])
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in words.not_beaten(report))
    kind = "champion" if gate["verdict"] == "champion" else "challenger"
    about = f"{report['rows']:,} test rows · {len(report['labels']):,} classes · {report['start']}"
    return (
        f'<div class="top"><div><h1>{escape(report["name"] or report["start"])}</h1>'
        f'<p class="quiet">{escape(about)} · model <code>{escape(digest[:12])}</code></p></div>'
        f'<span class="verdict {kind}">{kind}</span></div>'
        + section(
            f"Why {kind}", f'<ul class="reasons">{reasons}</ul>', notes, quiet(f"{words.detectable(report)}.")
        )
    )


def _metrics(report: Report) -> str:
    cards = []
    for name in words.ordered(report["metrics"]):
        figure = report["metrics"][name]
        cards.append(
            f'<div class="card"><span>{escape(words.TITLES.get(name, name))}</span>'
            f"<b>{words.number(figure['value'], figure['n'])}</b><span>{words.interval(figure)}</span></div>"
        )
    about = (
        f"With {100 * report['confidence']:g}% intervals. For log loss and calibration error less is better."
    )
    return section("On the test rows", f'<div class="cards">{"".join(cards)}</div>', quiet(about))


def _rivals(report: Report) -> str:
    main = words.main_metric(report)
    title = words.TITLES[main]
    ranges = [_range("this model", report["metrics"][main], own=True)]
    rows, notes = [], []
    for name, rival in words.rivals(report):
        figure = rival["metrics"][main]
        ranges.append(_range(name, figure))
        shown = (words.number(figure["value"], figure["n"]), words.points(rival["difference"]))
        rows.append(label_cell(name) + "".join(map(number_cell, (*shown, words.p_value(rival["p_value"])))))
        notes += [f"{name}: {rival['note']}."] if rival["note"] else []
    notes += [f"No cheap baseline: {report['no_baseline']}."] if report["no_baseline"] else []
    champion = report["champion"]
    notes += [f"Champion: {champion['note']}."] if champion and not champion["compared"] else []
    about = (
        "p: how often a model that is no better would do as well against it on these rows "
        "(one-sided exact McNemar test). The baselines are fitted on the training rows."
    )
    return section(
        "Against the others on the same rows",
        f'<div class="scroll">{range_chart(ranges, f"{title} with intervals")}</div>',
        table(["compared with"], [title, "the model is better by", "p"], rows),
        quiet(about),
        *map(quiet, notes),
    )


def _range(title: str, figure: dict[str, Any], own: bool = False) -> Range:
    shown = words.number(figure["value"], figure["n"])
    return Range(title, figure["value"], figure["low"], figure["high"], shown, own)


def _curves(history: list[dict[str, Any]]) -> str:
    losses = _series(history, {"train_loss": "training loss", "validation_loss": "validation loss"})
    shares = _series(history, {"validation_accuracy": "validation accuracy"})
    kept = next((float(entry["epoch"]) for entry in history if entry.get("kept") and "epoch" in entry), None)
    charts = [
        (f"{name} by epoch", series) for name, series in (("Loss", losses), ("Accuracy", shares)) if series
    ]
    if not charts:
        return ""
    figures = "".join(
        f"<figure><figcaption>{title}</figcaption>{line_chart(series, title, kept)}</figure>"
        for title, series in charts
    )
    note = "" if kept is None else quiet(f"Dashed: epoch {kept:g}, whose weights were kept.")
    return section("Training", f'<div class="pair">{figures}</div>', note)


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


def _mistakes(mistakes: list[Mistake], report: Report) -> str:
    if not mistakes:
        return section("Wrong answers", "<p>None on these rows.</p>")
    main = report["metrics"][words.main_metric(report)]
    wrong = round((1 - main["value"]) * main["n"])
    which = f"{len(mistakes)} of {wrong:,} wrong answers" if wrong > len(mistakes) else "All wrong answers"
    about = f"{which}, the surest first, with the probabilities that the model gave."
    return section("Most confidently wrong", quiet(about), _shown(mistakes))


def _doubted(doubts: Doubts) -> str:
    if not (told := doubts.said(LABELS)):
        return ""
    shown = _shown(doubts.labels, "is the label given") if doubts.labels else ""
    more = " Either the label is wrong, or the model has much to learn." if shown else ""
    return section("Rows to look at again", quiet(told + more), shown)


def _leaks(doubts: Doubts) -> str:
    if not (told := doubts.said(LEAKS)):
        return ""
    pairs = [(one, other) for one, other, _ in doubts.leaks]
    notes = [f"cosine {cosine:.4f}" for *_, cosine in doubts.leaks]
    shown = drawn_pairs(pairs, notes) if pairs else ""
    return section("Test rows like training rows", quiet(told), shown)


def _shown(rows: Sequence[Mistake], truth: str = "is true") -> str:
    kind = "misses images" if all(miss.image and not miss.texts for miss in rows) else "misses"
    return f'<div class="{kind}">{"".join(_mistake(miss, truth) for miss in rows)}</div>'


def _mistake(miss: Mistake, truth: str) -> str:
    size = ' class="enlarged"' if miss.pixelated else ""
    image = f'<img{size} src="{escape(miss.image)}" alt="{escape(miss.where)}">' if miss.image else ""
    texts = "".join(f'<blockquote dir="auto">{escape(text)}</blockquote>' for text in miss.texts)
    return (
        f'<div class="miss">{image}{texts}<p><span class="given">{escape(_names(miss.decided))}</span> '
        f"was the answer: {miss.confidence:.3f}</p>"
        f'<p><span class="true">{escape(_names(miss.wanted))}</span> {truth}: '
        f"{miss.truth_probability:.3f}</p><p>{escape(miss.where)}</p></div>"
    )


def _names(labels: list[str]) -> str:
    return ", ".join(labels) or "no label"


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
    return section("Identity", f'<dl class="facts">{rows}</dl>')
