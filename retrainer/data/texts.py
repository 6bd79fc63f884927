"""Texts that were once decoded wrongly, hold control characters, or are longer than the model reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrainer import extend
from retrainer.settings import Task

_REPLACED = "\ufffd"
_CONTROL = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
# What the bytes 0x80 to 0xbf become when they are read as Latin-1 or as Windows-1252.
_TAIL = "[\x80-\xbfŒœŠšŸŽžƒˆ˜–—‘’‚“”„†‡•…‰‹›€™]"
# The first bytes of accented letters, of punctuation and most scripts, of emoji; and two Greek or Cyrillic
# letters, whose first bytes are letters of words too.
_MISREAD = f"[ÂÃ]{_TAIL}|[â-é]{_TAIL}{_TAIL}|ð{_TAIL}{_TAIL}{_TAIL}|(?:[ÎÏÐÑ]{_TAIL}){{2}}"


def wrongly_encoded(texts: pa.ChunkedArray) -> dict[str, np.ndarray]:
    """What may be wrong → bool [N]; a text counts for the first that it shows."""
    found: dict[str, np.ndarray] = {}
    seen: np.ndarray = np.zeros(len(texts), bool)
    for kind, pattern in (
        ("with the mark of lost characters (U+FFFD)", _REPLACED),
        ("of UTF-8 read as Latin-1", _MISREAD),
        ("with control characters", _CONTROL),
    ):
        matches = pc.fill_null(pc.match_substring_regex(texts, pattern), False)
        new = np.asarray(matches, bool) & ~seen
        found[kind] = new
        seen |= new
    return found


def word_counts(table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """int64 [N]: words between white space, of a pair both texts'."""
    counts: np.ndarray = np.zeros(len(table), np.int64)
    for column in columns:
        counts += np.array([len(text.split()) for text in table[column].to_pylist()], np.int64)
    return counts


def longest_read(task: Task) -> int | None:
    """Tokens that the task keeps of a text; None where the task does not say."""
    module = extend.load("tasks", task.kind, "task.kind")
    options = (
        module.Options.parse(task.options, "task").plain() if hasattr(module, "Options") else task.options
    )
    given = options.get("max_length")
    return given if isinstance(given, int) else None
