"""Translation's own part of the report: examples, lengths, and the metrics by length of the source.

Legend: N test rows, S statistics of a metric's row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.extend import load
from retrainer.pages.page import escape, number_cell, quiet, section, table

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

_EXAMPLES = 8
_MOST_CHARACTERS = 300
_BUCKETS = 4
_FEWEST_ROWS = 20
_SENTENCE_METRIC = "chrf"  # of one sentence BLEU says little: most have no matching four-gram


def details(judged: Judged, metrics: Iterable[str]) -> dict[str, Any]:
    """JSON: `length_ratio`, `buckets` and the `best` and `worst` translations by their own chrF."""
    found = {name: _metric(name) for name in dict.fromkeys([*metrics, _SENTENCE_METRIC])}
    statistics = {name: m.statistics(judged.predictions, judged.test) for name, m in found.items()}
    scores = found[_SENTENCE_METRIC].value(statistics[_SENTENCE_METRIC])
    order = np.argsort(scores, kind="stable")
    words = {name: _words(texts) for name, texts in _texts(judged).items()}
    buckets = [
        {"words": label, "rows": len(rows)}
        | {name: float(found[name].value(statistics[name][rows].sum(axis=0))) for name in metrics}
        for label, rows in _buckets(words["source"])
    ]
    ratio = float(words["prediction"].sum() / max(1, words["reference"].sum()))
    return {
        "length_ratio": ratio,
        "notes": [f"The translations have {ratio:.3f} times as many words as the references."],
        "numbers": {"length_ratio": ratio},
        "buckets": buckets,
        "worst": _examples(judged, scores, order[:_EXAMPLES]),
        "best": _examples(judged, scores, order[::-1][:_EXAMPLES]),
    }


def panels(judged: Judged, report: dict[str, Any]) -> list[str]:  # noqa: ARG001 (all is in the report)
    """Two sections of report.html."""
    found = report["details"]
    names = (
        [name for name in found["buckets"][0] if name not in ("words", "rows")] if found["buckets"] else []
    )
    titles = [report["about"][name]["title"] for name in names]
    rows = (
        f"<td>{escape(bucket['words'])}</td>{number_cell(format(bucket['rows'], ','))}"
        + "".join(number_cell(f"{bucket[name]:.1f}") for name in names)
        for bucket in found["buckets"]
    )
    lengths = section(
        "By length of the source",
        table(["words of the source"], ["rows", *titles], rows),
        *(quiet(note) for note in found["notes"]),
    )
    return [lengths, section("Worst and best translations", *_drawn(found))]


def _metric(name: str) -> Any:
    return load("metrics", name, "gate.metric")


def _texts(judged: Judged) -> dict[str, list[str]]:
    columns = {
        "source": judged.test["text"],
        "reference": judged.test["target_text"],
        "prediction": judged.predictions["prediction"],
    }
    return {name: [text or "" for text in column.to_pylist()] for name, column in columns.items()}


def _words(texts: Iterable[str]) -> np.ndarray:
    """int64 [N]: what white space divides."""
    return np.array([len(text.split()) for text in texts], np.int64)


def _buckets(words: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Row numbers by number of words: up to four parts of about as many rows each, equal lengths together."""
    parts = max(1, min(_BUCKETS, len(words) // _FEWEST_ROWS))
    edges = (
        np.unique(np.quantile(words, np.linspace(0, 1, parts + 1)[1:], method="lower")) if len(words) else []
    )
    lowest = int(words.min(initial=0))
    for edge in edges:
        yield (
            f"{lowest} to {edge}" if edge > lowest else str(lowest),
            np.flatnonzero((words >= lowest) & (words <= edge)),
        )
        lowest = int(edge) + 1


def _examples(judged: Judged, scores: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
    texts = _texts(judged)
    origins = judged.test["origin"].to_pylist() if "origin" in judged.test.column_names else None
    return [
        {name: column[row][:_MOST_CHARACTERS] for name, column in texts.items()}
        | {
            "where": PurePath(origins[row] or "").name if origins else f"row {row}",
            _SENTENCE_METRIC: float(scores[row]),
        }
        for row in rows.tolist()
    ]


def _drawn(found: dict[str, Any]) -> Iterator[str]:
    for title, shown in (("Worst", found["worst"]), ("Best", found["best"])):
        rows = (
            "".join(
                f'<td dir="auto">{escape(one[name])}</td>' for name in ("source", "reference", "prediction")
            )
            + number_cell(f"{one[_SENTENCE_METRIC]:.1f}")
            for one in shown
        )
        yield f"<h3>{title}</h3>"
        yield table(["source", "reference", "translation"], ["chrF"], rows)
