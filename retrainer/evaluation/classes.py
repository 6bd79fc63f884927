"""The parts of report.html about single classes: what is confused with what, and figures per class."""

from __future__ import annotations

from typing import Any

from retrainer.evaluation.words import Report
from retrainer.pages.charts import heat_map
from retrainer.pages.page import bar_cell, label_cell, number_cell, quiet, section, share_cell, table

# More classes than this make a matrix nobody can read: the most confused pairs are listed instead.
MOST_IN_MATRIX = 30
_MOST_PAIRS = 25
# Longer tables are folded away.
_MOST_OPEN = 40


def matrix(confusion: dict[str, Any]) -> list[list[int]]:
    """The sparse confusion counts of metrics.json as rows [true][decided]."""
    size = len(confusion["labels"])
    counts = [[0] * size for _ in range(size)]
    for true, given, rows in confusion["cells"]:
        counts[true][given] = rows
    return counts


def confusion_section(report: Report) -> str:
    """A heat map, a list of pairs, or nothing (multi-label)."""
    confusion = report["confusion"]
    if confusion is None:
        return ""
    if len(confusion["labels"]) > MOST_IN_MATRIX:
        return _pairs(confusion)
    chart = heat_map(confusion["labels"], matrix(confusion), "confusion matrix")
    about = "Rows: the true class. Columns: the answer. Shaded by the share of the true class."
    return section("Confusion", quiet(about), f'<div class="scroll">{chart}</div>')


def _pairs(confusion: dict[str, Any]) -> str:
    labels = confusion["labels"]
    support: dict[int, int] = {}
    for true, _, rows in confusion["cells"]:
        support[true] = support.get(true, 0) + rows
    errors = [cell for cell in confusion["cells"] if cell[0] != cell[1]]
    if not errors:
        return ""
    errors.sort(key=lambda cell: (-cell[2], -cell[2] / support[cell[0]], cell[0], cell[1]))
    rows = [
        label_cell(labels[true])
        + label_cell(labels[given])
        + number_cell(f"{count} of {support[true]}")
        + bar_cell(count / support[true])
        for true, given, count in errors[:_MOST_PAIRS]
    ]
    about = f"{min(len(errors), _MOST_PAIRS)} of {len(errors):,} pairs of classes with errors."
    shown = table(["true class", "answered as"], ["rows", "share of the true class"], rows)
    return section("Most confused classes", quiet(about), shown)


def per_class_section(report: Report) -> str:
    """Figures of each class, the weakest first; classes without test rows last."""
    classes = sorted(report["per_class"], key=lambda c: (c["f1"] is None, c["f1"] or 0.0, c["label"]))
    rows = [
        label_cell(c["label"])
        + bar_cell(c["f1"])
        + share_cell(c["precision"])
        + share_cell(c["recall"])
        + number_cell(f"{c['support']:,}")
        + number_cell(f"{c['predicted']:,}")
        for c in classes
    ]
    shown = table(["class"], ["F1", "precision", "recall", "test rows", "answered"], rows)
    if len(classes) > _MOST_OPEN:
        shown = f"<details><summary>Show all {len(classes):,} classes</summary>{shown}</details>"
    return section("By class", quiet("The weakest first."), shown)
