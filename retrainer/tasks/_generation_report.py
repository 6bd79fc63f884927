"""Text generation's own part of the report: what was asked, what was expected, and what was written.

Legend: N test rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.extend import load
from retrainer.pages.page import escape, number_cell, quiet, section, table

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

_SAMPLES = 12
_UNEXPECTED = 8
_MOST_CHARACTERS = 400


def details(judged: Judged, most: int) -> dict[str, Any]:
    """JSON: `samples`, drawn evenly from the test rows, the answers that were expected least, and how many
    answers have `most` tokens, beyond which none is read or written."""
    tokens = judged.predictions["tokens"].to_numpy()
    nats = judged.predictions["nats"].to_numpy() / np.maximum(tokens, 1)
    evenly = np.unique(np.linspace(0, len(nats) - 1, _SAMPLES).astype(np.int64)) if len(nats) else []
    unexpected = np.argsort(-nats, kind="stable")[:_UNEXPECTED]
    longest = int((tokens >= most).sum())
    notes = []
    if longest:
        notes.append(
            f"{longest:,} of {len(nats):,} expected answers have {most} tokens (task.max_new_tokens) or were"
            " cut there: no longer one is read or written."
        )
    return {
        "notes": notes,
        "limits": ["An answer is as probable as the model finds it, and no more true for that."],
        "numbers": {"nats_per_token": float((nats * tokens).sum() / max(1.0, tokens.sum()))},
        "longest_answers": longest,
        "samples": _examples(judged, nats, evenly),
        "unexpected": _examples(judged, nats, unexpected),
    }


def panels(found: dict[str, Any]) -> list[str]:
    """A section of report.html."""
    return [section("Prompts and answers", *_drawn(found), *(quiet(note) for note in found["notes"]))]


def _examples(judged: Judged, nats: np.ndarray, rows: Any) -> list[dict[str, Any]]:
    columns = {
        "prompt": judged.test["text"],
        "expected": judged.test["target_text"],
        "produced": judged.predictions["prediction"],
    }
    right = load("metrics", "exact_match", "gate.metric").statistics(judged.predictions, judged.test)[:, 0]
    origins = judged.test["origin"].to_pylist() if "origin" in judged.test.column_names else None
    return [
        {name: _short(column[row].as_py() or "") for name, column in columns.items()}
        | {
            "where": PurePath(origins[row] or "").name if origins else f"row {row}",
            "right": bool(right[row]),
            "nats_per_token": round(float(nats[row]), 4),
        }
        for row in map(int, rows)
    ]


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} …"


def _drawn(found: dict[str, Any]) -> Iterator[str]:
    titles = {"samples": "Samples, drawn evenly from the test rows", "unexpected": "Answers expected least"}
    for key, title in titles.items():
        rows = (
            "".join(f'<td dir="auto">{escape(one[name])}</td>' for name in ("prompt", "expected", "produced"))
            + f"<td>{'yes' if one['right'] else 'no'}</td>"
            + number_cell(f"{one['nats_per_token']:.2f}")
            for one in found[key]
        )
        yield f"<h3>{title}</h3>"
        yield table(["prompt", "expected", "produced", "the same"], ["nats a token"], rows)
