"""Spans of words, counted: what the metrics of sequence tagging share. `retrainer.formats.tags` reads them.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import DataError
from retrainer.formats.tags import OUTSIDE, Span, Tags, spans, split_tag
from retrainer.metrics._classes import share

if TYPE_CHECKING:
    import pyarrow as pa

Finder = Callable[[Tags], list[Span]]


def strict_spans(tags: Tags, letters: frozenset[str]) -> list[Span]:
    """Only what the scheme allows, as seqeval's (1.2.2) `mode="strict"`: a span that does not begin, or does
    not end, as the scheme says is none. `letters` are those of all rows, which tell the scheme: with B alone
    IOB2, with E alone IOE2, with both (or S) IOBES; with neither the spans are those of `spans`.
    """
    if not letters & set("BES"):
        return spans(tags)
    begins, ends = bool(letters & set("BS")), bool(letters & set("ES"))
    split = [*map(split_tag, tags), split_tag(None)]
    found, place = [], 0
    while place < len(tags):
        letter, kind = split[place]
        place += 1
        if letter == "S" and begins:
            found.append((kind, place - 1, place - 1))
        elif letter == OUTSIDE or (begins and letter != "B"):
            continue
        else:
            end = _end(split, place - 1, ends)
            if not ends or split[end][0] == "E":
                found.append((kind, place - 1, end))
            place = end + 1
    return found


def _end(split: list[tuple[str, str]], start: int, ends: bool) -> int:
    """The last word that the span which begins at `start` can have."""
    end, kind = start, split[start][1]
    while split[end][0] != "E" and split[end + 1] in ((("I", kind), ("E", kind)) if ends else (("I", kind),)):
        end += 1
    return end


def tags_of(predictions: pa.Table, truth: pa.Table) -> tuple[list[list[str | None]], list[list[str]]]:
    """Both tables' tags. Raises DataError for a row whose words and tags are not as many."""
    said, had = predictions["tags"].to_pylist(), truth["tags"].to_pylist()
    for row, (one, other) in enumerate(zip(said, had, strict=True)):
        if len(one) != len(other):
            where = truth["origin"][row].as_py() if "origin" in truth.column_names else f"row {row + 1}"
            raise DataError(f"{where} has {len(other)} tags and {len(one)} words; give each word one tag")
    return said, had


def strict_finder(rows: Iterable[Tags]) -> Finder:
    """`strict_spans` by the scheme that these rows show."""
    letters = frozenset(split_tag(tag)[0] for tags in rows for tag in set(tags))
    return lambda tags: strict_spans(tags, letters)


def span_counts(
    said: Sequence[Tags], had: Sequence[Tags], find: Finder, kind: str | None = None
) -> np.ndarray:
    """float64 [N, 3]: spans found rightly, found, and there; only those of type `kind`, if that is given."""
    counts: np.ndarray = np.zeros((len(had), 3))
    for row, (one, other) in enumerate(zip(said, had, strict=True)):
        found, true = ({span for span in find(tags) if kind in (None, span[0])} for tags in (one, other))
        counts[row] = len(found & true), len(found), len(true)
    return counts


def f1(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 3] → F1 [...] by precision and recall, in the order in which seqeval computes it."""
    right: np.ndarray = sums[..., 0].astype(np.float64)
    precision, recall = share(right, sums[..., 1]), share(right, sums[..., 2])
    return share(2 * precision * recall, precision + recall)
