"""Tagging's sections of report.html: each type, the commonest mistakes, and sentences tagged both ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from retrainer.formats.tags import spans
from retrainer.pages.page import bar_cell, escape, label_cell, number_cell, quiet, section, table

_NONE = "–"
_LEFT_OUT = "…"


def panels(found: dict[str, Any]) -> list[str]:
    """`found` is what `_tag_details.details` gives."""
    return [
        _types(found),
        _confusions(found["confusions"]),
        _mistakes(found["mistakes"], found["of_spans"]),
    ]


def _types(found: dict[str, Any]) -> str:
    rows = (
        label_cell(row["label"])
        + "".join(bar_cell(row[name]) for name in ("precision", "recall", "f1"))
        + "".join(number_cell(format(row[name], ",")) for name in ("true", "found"))
        for row in found["per_type"]
    )
    what = "spans" if found["of_spans"] else "words"
    numbers = ["precision", "recall", "F1", f"true {what}", f"found {what}"]
    return section("By type", table(["type"], numbers, rows), *map(quiet, found["notes"]))


def _confusions(confusions: Sequence[dict[str, Any]]) -> str:
    if not confusions:
        return section("The commonest mistakes", quiet("There are none."))
    rows = (
        label_cell(row["true"])
        + label_cell("not read" if row["found"] is None else row["found"])
        + number_cell(format(row["words"], ","))
        for row in confusions
    )
    return section("The commonest mistakes", table(["true tag", "given tag"], ["words"], rows))


def _mistakes(mistakes: Sequence[dict[str, Any]], of_spans: bool) -> str:
    if not mistakes:
        return ""
    rows = (
        f'<td dir="auto">{_sentence(one["words"], one["true"], one["found"], of_spans)}</td>'
        f'<td dir="auto">{_sentence(one["words"], one["found"], one["true"], of_spans)}</td>'
        f"<td>{escape(one['where'])}</td>" + number_cell(str(one["wrong"]))
        for one in mistakes
    )
    what = "Brackets hold a span, with its type behind it" if of_spans else "A word's tag stands behind it"
    note = f"{what}; what the two do not agree on is bold. Those with most wrong tags a word come first."
    heads = ["true", "given", "where"]
    return section("Worst sentences", quiet(note), table(heads, ["wrong tags"], rows))


def _sentence(
    words: Sequence[str], tags: Sequence[str | None], other: Sequence[str | None], of_spans: bool
) -> str:
    """The words with their spans, or with the tags that differ, as HTML."""
    shown = _bracketed(words, tags, other) if of_spans else _tagged(words, tags, other)
    return " ".join(shown)


def _bracketed(
    words: Sequence[str], tags: Sequence[str | None], other: Sequence[str | None]
) -> Iterator[str]:
    mine, theirs = spans(tags), set(spans(other))
    starts = {first: (kind, last) for kind, first, last in mine}
    place = 0
    while place < len(words):
        kind, last = starts.get(place, ("", place))
        text = escape(" ".join(words[place : last + 1]))
        if kind:
            text = f"[{text}]<sub>{escape(kind)}</sub>"
            text = text if (kind, place, last) in theirs else f"<strong>{text}</strong>"
        yield text
        place = last + 1


def _tagged(words: Sequence[str], tags: Sequence[str | None], other: Sequence[str | None]) -> Iterator[str]:
    for word, tag, another in zip(words, tags, other, strict=False):
        text = escape(word)
        yield text if tag == another else f"<strong>{text}<sub>{escape(tag or _NONE)}</sub></strong>"
