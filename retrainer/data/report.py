"""report.html of a dataset: what came in and went out, every check, the splits, and near-duplicates drawn.

The same rows and settings give the same page.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from retrainer.data.label_noise import FILE as SUSPECTS
from retrainer.data.label_noise import Suspect
from retrainer.data.near import MOST_DRAWN, Pairs, drawn
from retrainer.data.task_columns import TaskColumns
from retrainer.findings import percent
from retrainer.formats.names import SPLITS
from retrainer.pages.histograms import histogram
from retrainer.pages.page import (
    bar_cell,
    document,
    escape,
    label_cell,
    number_cell,
    quiet,
    section,
    share_cell,
    table,
)
from retrainer.pages.pairs import drawn_pairs, side
from retrainer.texts import plural

FILE = "report.html"
Manifest = dict[str, Any]
# Longer tables are folded away.
_MOST_OPEN = 40
_MOST_SUSPECTS = 12
_TEST = SPLITS[-1]


@dataclass(frozen=True)
class Found:
    """What the page shows besides the manifest: pairs of near contents, the key of each sound row, words per
    row (int64 [N]), (width, height) of each image, none where the task reads texts, and suspected labels."""

    near: Pairs
    keys: list[bytes]
    words: np.ndarray
    sizes: list[tuple[int, int]]
    suspects: list[Suspect] = field(default_factory=list)


def render(manifest: Manifest, rows: pa.Table, columns: TaskColumns, found: Found) -> str:
    """The page. `rows` are the sound rows."""
    kept, left_out = sum(manifest["rows"].values()), sum(manifest["dropped"].values())
    title = f"Data: {kept:,} of {kept + left_out:,} rows"
    sections = [
        _top(title, manifest),
        _checks(manifest),
        _rows(manifest, kept, left_out),
        _classes(manifest),
        _near(rows, columns, found),
        _suspects(rows, columns, found.suspects),
        _sizes(columns, found),
        _columns(manifest),
    ]
    return document(title, sections)


def _top(title: str, manifest: Manifest) -> str:
    warned = sum(1 for check in manifest["checks"] if check["count"])
    checks = plural(warned, "check")
    kind, said = ("challenger", f"{checks} found something") if warned else ("champion", "nothing found")
    about = " · ".join(str(part.get("file", "")) for part in manifest["sources"])
    digest = manifest["content_sha256"][:12]
    return (
        f'<div class="top"><div><h1>{escape(title)}</h1>{quiet(f"{about} · content `{digest}`")}</div>'
        f'<span class="verdict {kind}">{said}</span></div>'
    )


def _checks(manifest: Manifest) -> str:
    checks = sorted(manifest["checks"], key=lambda check: not check["count"])
    rows = []
    for check in checks:
        items = "".join(f'<li dir="auto">{escape(example)}</li>' for example in check["examples"])
        shown = f"<details><summary>the first ones</summary><ul>{items}</ul></details>" if items else ""
        rows.append(
            label_cell(check["name"].replace("_", " "))
            + label_cell(_level(check["level"]))
            + f'<td class="label">{escape(check["note"])}{shown}</td>'
            + number_cell(f"{check['count']:,}" if check["level"] != "off" else "–")
            + number_cell(percent(check["share"]) if check["count"] and check["share"] is not None else "")
        )
    about = (
        "Those that found something come first. A check that stops ends the run; one that warns is shown here"
        " alone. The settings of the section `checks` say which does what."
    )
    heads = ["check", "what happens", "what it counts"], ["found", "share"]
    return section("Checks", quiet(about), table(*heads, rows))


def _level(level: str | float) -> str:
    """In words; `off` is one already."""
    if isinstance(level, float):
        return f"stops beyond {percent(level)}"
    return {"error": "stops", "warn": "warns"}.get(level, level)


def _rows(manifest: Manifest, kept: int, left_out: int) -> str:
    cards = [("rows in", kept + left_out), ("left out", left_out)]
    cards += [(name, manifest["rows"][name]) for name in SPLITS]
    shown = "".join(
        f'<div class="card"><span>{name}</span><b>{count:,}</b>'
        f"<span>{_percent(count, kept) if name in SPLITS else '&nbsp;'}</span></div>"
        for name, count in cards
    )
    reasons = sorted(manifest["dropped"].items(), key=lambda item: (-item[1], item[0]))
    lines = [
        label_cell(reason) + number_cell(f"{count:,}") + bar_cell(count / (kept + left_out))
        for reason, count in reasons
    ]
    dropped = table(["left out because"], ["rows", "share of rows in"], lines) if lines else ""
    said = (
        ["The file dropped.parquet of the dataset has each row that was left out, with its origin."]
        if lines
        else []
    )
    said += [f"The {split} rows are your own {split} set." for split in manifest.get("own_sets", ())]
    return section(
        "Rows", f'<div class="cards">{shown}</div>', dropped, quiet(" ".join(said)) if said else ""
    )


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.1f}%"


def _classes(manifest: Manifest) -> str:
    counts = manifest["classes"]
    totals: Counter[str] = Counter()
    for of_split in counts.values():
        totals.update(of_split)
    if not totals:
        return ""
    lines = [
        label_cell(label or "(empty)")
        + "".join(number_cell(f"{counts[name].get(label, 0):,}") for name in SPLITS)
        + bar_cell(total / totals.total())
        + share_cell(manifest["class_shares"].get(label, {}).get(_TEST))
        for label, total in sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    ]
    shown = table(["class"], [*SPLITS, "share of labels", "in test"], lines)
    if len(lines) > _MOST_OPEN:
        shown = f"<details><summary>Show all {len(lines):,} classes</summary>{shown}</details>"
    about = "The most frequent first. The last column is the share of a class that became test rows."
    return section("Classes", quiet(about), shown)


def _near(rows: pa.Table, columns: TaskColumns, found: Found) -> str:
    pairs = drawn(found.near)
    if not pairs:
        return ""
    first = {key: row for row, key in reversed(list(enumerate(found.keys)))}
    sides = [[side(rows, first[key], columns.inputs) for key in pair] for pair in pairs]
    which = f"{len(pairs)} of {len(found.near):,} pairs" if len(found.near) > MOST_DRAWN else "All pairs"
    about = f"{which}, at first one of each cluster. All rows of a cluster are in the same split."
    return section("Near-duplicates", quiet(about), drawn_pairs((one, other) for one, other in sides))


def _suspects(rows: pa.Table, columns: TaskColumns, suspects: list[Suspect]) -> str:
    """The rows whose label the rows like them contradict most."""
    if not suspects:
        return ""
    shown = "".join(
        f'<div class="miss">{side(rows, one.row, columns.inputs)}'
        f'<p><span class="given">{escape(one.suggested)}</span> is likelier: {one.probability:.2f}</p></div>'
        for one in suspects[:_MOST_SUSPECTS]
    )
    about = (
        f"{min(len(suspects), _MOST_SUSPECTS)} of {len(suspects):,} training rows whose label a linear model"
        f" doubts that was fitted without them. The file {SUSPECTS} beside this page has all. Not every doubt"
        " is right."
    )
    kind = "misses images" if columns.inputs_of("image") else "misses"
    return section("Labels to look at again", quiet(about), f'<div class="{kind}">{shown}</div>')


def _sizes(columns: TaskColumns, found: Found) -> str:
    charts = []
    if columns.inputs_of("string") and len(found.words):
        charts.append(("Length of a text", found.words.tolist(), "words"))
    if found.sizes:
        charts.append(("Width of an image", [width for width, _ in found.sizes], "pixels"))
        charts.append(("Height of an image", [height for _, height in found.sizes], "pixels"))
    figures = "".join(_figure(*chart) for chart in charts)
    return section("Lengths and sizes", f'<div class="pair">{figures}</div>') if figures else ""


def _figure(title: str, values: list[int], unit: str) -> str:
    """How many rows are how long; one sentence where all are the same."""
    if min(values) == max(values):
        return f"<p>{title}: {values[0]:,} {unit}, all of them.</p>"
    caption = f"{title}, in {unit}: how many rows"
    return f"<figure><figcaption>{caption}</figcaption>{histogram(values, unit, caption)}</figure>"


def _columns(manifest: Manifest) -> str:
    lines = [
        label_cell(name) + label_cell(facts["type"]) + share_cell(facts["absent"])
        for name, facts in manifest["schema"].items()
    ]
    return section("Columns as they came", table(["column", "type"], ["without a value"], lines))
