"""What a report says of tagging beyond the common part: `details` of metrics.json.

    per_type   [{"label", "precision", "recall", "f1", "true", "found"}]: of each type of span, or each plain
               tag, the commonest first; over the test rows. Null where there is nothing to divide by
    confusions [{"true", "found", "words"}]: the commonest wrong tags; `found` is null for words not read
    mistakes   [{"where", "words", "true", "found", "wrong"}]: the sentences with most wrong tags a word
    unread     {"words", "rows"}: how many words lie behind the cut at `task.max_length`, and in how many rows
    notes, limits, numbers    see `Task.details`

Legend: N rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.formats.tags import Tags, spans
from retrainer.formats.words import words_of
from retrainer.metrics import span_f1
from retrainer.metrics._spans import Finder, f1, span_counts, tags_of
from retrainer.tasks._protocol import ClassFigure
from retrainer.texts import plural

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.tasks._protocol import Judged

# Types with fewer true spans than this are named among the limits.
FEW = 30
_MOST_NAMED = 10
_MOST = 12
# Words that are shown of a sentence.
_MOST_WORDS = 80


def details(judged: Judged, of_spans: bool) -> dict[str, Any]:
    said, had = tags_of(judged.predictions, judged.test)
    table = [_figures(kind, said, had, of_spans) for kind in _kinds([*said, *had], of_spans)]
    table.sort(key=lambda row: (-row["true"], row["label"]))
    unread = [sum(tag is None for tag in tags) for tags in said]
    lost = {"words": sum(unread), "rows": sum(map(bool, unread))}
    return {
        "of_spans": of_spans,
        "per_type": table,
        "confusions": _confusions(said, had),
        "mistakes": _mistakes(judged, said, had),
        "unread": lost,
        "notes": _notes(lost),
        "limits": _limits(table, of_spans),
        "numbers": {"words_not_read": float(lost["words"])},
    }


def class_figures(predictions: pa.Table, truth: pa.Table) -> dict[str, ClassFigure]:
    """F1 of each tag that the rows have, over the words of all rows: the tag where it is not due counts
    against it. Tags, and not types of spans, are the classes that two models have in common."""
    said, had = tags_of(predictions, truth)
    rows, figures = np.arange(len(had)), {}
    for tag in _kinds(had, of_spans=False):
        counts = span_counts(said, had, _single_words, tag)
        figures[tag] = ClassFigure("F1 of words", span_f1, rows, counts, counts[:, 2] > 0)
    return figures


def finder(of_spans: bool) -> Finder:
    """Spans as conlleval reads them, or each word's plain tag as a span of one word."""
    return spans if of_spans else _single_words


def _single_words(tags: Tags) -> list[tuple[str, int, int]]:
    return [(tag, place, place) for place, tag in enumerate(tags) if tag is not None]


def _kinds(rows: Iterable[Tags], of_spans: bool) -> list[str]:
    find = finder(of_spans)
    return sorted({kind for tags in rows for kind, _, _ in find(tags)})


def _figures(kind: str, said: list[Any], had: list[Any], of_spans: bool) -> dict[str, Any]:
    right, found, true = sums = span_counts(said, had, finder(of_spans), kind).sum(axis=0)
    return {
        "label": kind,
        "precision": float(right / found) if found else None,
        "recall": float(right / true) if true else None,
        "f1": float(f1(sums)) if true else None,
        "true": int(true),
        "found": int(found),
    }


def _confusions(said: list[Any], had: list[Any]) -> list[dict[str, Any]]:
    pairs = zip((tag for tags in had for tag in tags), (tag for tags in said for tag in tags), strict=True)
    counts = Counter(pair for pair in pairs if pair[0] != pair[1])
    order = sorted(counts, key=lambda pair: (-counts[pair], pair[0], pair[1] or ""))
    return [{"true": true, "found": found, "words": counts[true, found]} for true, found in order[:_MOST]]


def _mistakes(judged: Judged, said: list[Any], had: list[Any]) -> list[dict[str, Any]]:
    wrong = np.array(
        [
            sum(map(str.__ne__, true, (tag or "" for tag in found)))
            for found, true in zip(said, had, strict=True)
        ]
    )
    shares = wrong / np.maximum([len(tags) for tags in had], 1)
    order = [int(row) for row in np.lexsort((-wrong, -shares))[:_MOST] if wrong[row]]
    return [
        {
            "where": _where(judged.test, row),
            "words": words_of(judged.test["text"][row].as_py())[:_MOST_WORDS],
            "true": had[row][:_MOST_WORDS],
            "found": said[row][:_MOST_WORDS],
            "wrong": int(wrong[row]),
        }
        for row in order
    ]


def _where(test: pa.Table, row: int) -> str:
    origin = test["origin"][row].as_py() if "origin" in test.column_names else None
    return PurePath(origin or f"row {row}").name


def _notes(unread: dict[str, int]) -> list[str]:
    if not unread["words"]:
        return []
    return [
        f"{plural(unread['words'], 'word')} of {plural(unread['rows'], 'test row')} lie behind the cut at"
        " `task.max_length` tokens: they got no tag, and count as wrong."
    ]


def _limits(table: list[dict[str, Any]], of_spans: bool) -> list[str]:
    few = [f"{row['label']} ({row['true']})" for row in table if row["true"] < FEW]
    if not few:
        return []
    what = "spans" if of_spans else "words"
    more = f" and {len(few) - _MOST_NAMED:,} more" if len(few) > _MOST_NAMED else ""
    named = ", ".join(few[:_MOST_NAMED])
    return [f"Figures of a type with fewer than {FEW} {what} in the test are rough: {named}{more}."]
