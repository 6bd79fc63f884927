"""From each token's probabilities to what is said of a sentence's words.

Legend: B rows, T tokens, W padded words, K tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from torch import Tensor

from retrainer.formats.tags import spans
from retrainer.tasks._tagged_tokens import NOT_READ

SPAN = pa.struct(
    [
        ("label", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("text", pa.string()),
        ("score", pa.float32()),
    ]
)


def answers(shares: Tensor, batch: dict[str, Tensor], labels: Sequence[str], of_spans: bool) -> pa.Table:
    """Probabilities [B, T, K] → a row a sentence.

    tags    each word's likeliest tag; null for one behind the cut at `task.max_length`
    words   the words themselves
    scores  the probability of each tag; null likewise
    spans   {label, start, end, text, score}: `start` and `end` count characters of the text, from 0 up to
            but without `end`; a span is as sure as the least sure of its words
    """
    firsts = batch["firsts"]
    places = firsts.clamp(min=0)[..., None].expand(-1, -1, shares.shape[2])
    best, tags = shares.gather(1, places).max(dim=2)  # [B, W]
    rows = zip(
        *(one.tolist() for one in (tags, best, firsts, batch["spans"], batch["characters"])), strict=True
    )
    found = [_row(labels, *row) for row in rows]
    columns: dict[str, Any] = {
        "tags": pa.array([row["tags"] for row in found], pa.list_(pa.string())),
        "words": pa.array([row["words"] for row in found], pa.list_(pa.string())),
        "scores": pa.array([row["scores"] for row in found], pa.list_(pa.float32())),
    }
    if of_spans:
        columns["spans"] = pa.array([_spans(row) for row in found], pa.list_(SPAN))
    return pa.table(columns)


def _row(
    labels: Sequence[str],
    tags: list[int],
    best: list[float],
    firsts: list[int],
    places: list[list[int]],
    characters: list[int],
) -> dict[str, Any]:
    """One sentence, without what fills it up."""
    text = "".join(chr(code) for code in characters if code >= 0)
    count = sum(start >= 0 for start, _ in places)
    read = [first != NOT_READ for first in firsts[:count]]
    return {
        "text": text,
        "places": places[:count],
        "words": [text[start:end] for start, end in places[:count]],
        "tags": [labels[tag] if there else None for tag, there in zip(tags, read, strict=False)],
        "scores": [score if there else None for score, there in zip(best, read, strict=False)],
    }


def _spans(row: dict[str, Any]) -> list[dict[str, Any]]:
    made = []
    for kind, first, last in spans(row["tags"]):
        start, end = row["places"][first][0], row["places"][last][1]
        text = " ".join(row["text"][start:end].split("\t"))
        score = min(row["scores"][first : last + 1])
        made.append({"label": kind, "start": start, "end": end, "text": text, "score": score})
    return made
