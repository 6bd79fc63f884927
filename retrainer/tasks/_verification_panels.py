"""The sections of report.html about verification: scores and threshold, error rates, the hardest pairs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from retrainer.metrics._pair_scores import NEVER
from retrainer.pages.charts import Axes, Points, line_chart
from retrainer.pages.page import escape, number_cell, quiet, section, share_cell, table
from retrainer.pages.pairs import drawn_pairs, side

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

Details = dict[str, Any]
_KINDS = {"genuine": "One identity", "impostors": "Two identities"}


def panels(judged: Judged, details: Details) -> list[str]:
    return [_scores(details), _identities(details["identities"]), _worst(judged, details)]


def _scores(details: Details) -> str:
    charts = [
        ("Scores of pairs: share of each kind", _histogram(details)),
        ("Each threshold: genuine pairs rejected over impostor pairs accepted", _curve(details["curve"])),
    ]
    drawn = "".join(f"<figure><figcaption>{title}</figcaption>{chart}</figure>" for title, chart in charts)
    found = details["pairs"]
    said = (
        f"{found['genuine']:,} genuine pairs and {found['impostors']:,} of impostors, of"
        f" {found['identities']:,} identities."
    )
    if found["sessions"]:
        said += " Two rows of one session are no pair."
    notes = [quiet(said), *map(quiet, details["notes"])]
    return section("Scores and threshold", f'<div class="pair">{drawn}</div>', *notes)


def _histogram(details: Details) -> str:
    edges = details["scores"]["edges"]
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    lines: dict[str, Points] = {}
    for name, title in (("genuine", "one identity"), ("impostors", "two identities")):
        counts = details["scores"][name]
        whole = max(1, sum(counts))
        lines[title] = [(at, count / whole) for at, count in zip(middles, counts, strict=True)]
    threshold = details["threshold"]
    ends = (edges[0], edges[-1])
    marked = threshold if ends[0] <= threshold <= ends[1] and threshold != NEVER else None
    return line_chart(lines, "shares of pairs by score", marked, Axes("score", ends))


def _curve(points: list[list[float]]) -> str:
    line: Points = [(accepted, rejected) for accepted, rejected in points]
    axes = Axes("impostor pairs accepted", (0.0, 1.0), (0.0, 1.0))
    return line_chart({"genuine pairs rejected": line}, "false rejects over false accepts", None, axes)


def _identities(found: list[Details]) -> str:
    if not found:
        return ""
    rows = (
        f"<td>{escape(one['identity'])}</td>{number_cell(format(one['rows'], ','))}"
        + share_cell(one["equal_error_rate"])
        for one in found
    )
    return section("By identity", table(["identity"], ["rows", "equal error rate of its pairs"], rows))


def _worst(judged: Judged, details: Details) -> str:
    columns = list(judged.predictor.task.input_columns)
    parts = []
    for kind, title in _KINDS.items():
        some = [one for one in details["worst"] if one["kind"] == kind]
        if some:
            sides = [
                (side(judged.test, one["row"], columns), side(judged.test, one["other"], columns))
                for one in some
            ]
            notes = [_said(judged, one) for one in some]
            parts += [f"<h3>{escape(title)}</h3>", drawn_pairs(sides, notes)]
    note = (
        "The lowest scores of one identity and the highest of two, right or wrong. Are two of one person"
        " filed under two names, or two persons under one?"
    )
    return section("Hardest pairs", quiet(note), *parts) if parts else ""


def _said(judged: Judged, one: Details) -> str:
    names = [judged.test["group"][one[end]].as_py() for end in ("row", "other")]
    return f"score {one['score']:.3f}: {' and '.join(dict.fromkeys(names))}"
