"""A target that is no class (a number, a translation) written into the text that it should be told from."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from retrainer.data.similar.texts import plain_words
from retrainer.data.task_columns import TaskColumns

_MOST_ROWS = 4096
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
# A translation of fewer words may be what was said: names, "OK".
_LEAST_WORDS = 2


def share_written(table: pa.Table, columns: TaskColumns) -> tuple[float, int]:
    """Of how many of the rows that can be judged the text holds the row's own target, beyond the share that
    holds the next row's; and how many rows these are."""
    texts, targets = columns.inputs_of("string"), [n for n in columns.targets if columns.types[n] in _HOLDS]
    if not texts or not targets:
        return 0.0, 0
    rows = table.slice(0, _MOST_ROWS)
    given, holds = rows[texts[0]].to_pylist(), _HOLDS[columns.types[targets[0]]]
    wanted = rows[targets[0]].to_pylist()
    own = [holds(text or "", target) for text, target in zip(given, wanted, strict=True)]
    other = [holds(text or "", target) for text, target in zip(given, wanted[1:] + wanted[:1], strict=True)]
    judged = [(mine, next_one) for mine, next_one in zip(own, other, strict=True) if mine is not None]
    if not judged:
        return 0.0, 0
    return sum(bool(mine) - bool(next_one) for mine, next_one in judged) / len(judged), len(judged)


def _holds_number(text: str, target: float | None) -> bool | None:
    if target is None:
        return None
    return any(float(found) == target for found in _NUMBER.findall(text))


def _holds_text(text: str, target: str | None) -> bool | None:
    """None for a copy too: punctuation restored, a sentence that needs no correction."""
    words, given = plain_words(target or ""), plain_words(text)
    if len(words.split()) < _LEAST_WORDS or words == given:
        return None
    return f" {words} " in f" {given} "


_HOLDS: dict[str, Callable[[str, Any], bool | None]] = {"number": _holds_number, "string": _holds_text}
