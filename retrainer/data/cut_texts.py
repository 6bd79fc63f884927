"""Texts that all end at one length, as the width of a column cuts them on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrainer.findings import Findings, share_of

# So many texts, and this share of all, are of the greatest length; of the lengths just below it, there are
# ten times fewer each.
_LEAST_ROWS, _LEAST_SHARE = 20, 0.01
_BELOW, _TIMES = 10, 10.0
# What is cut has as many words as fit. Codes and phrases of a fixed form all have the same number.
_LEAST_WORDS, _LEAST_NUMBERS, _SHARE_OF_NUMBER = 3, 3, 0.05


def check_cut_texts(table: pa.Table, names: Sequence[str], findings: Findings) -> None:
    """The check `cut_texts`, on these columns of text; the share is that of the column most of which is
    cut."""
    if not names or not findings.looks("cut_texts"):
        return
    found = {name: _cut(table[name]) for name in names}
    name, (rows, length) = max(found.items(), key=lambda one: len(one[1][0]))
    note = "texts are cut at one length"
    if len(rows):
        note = f"texts of the column '{name}' end at {length:,} characters, none later: they were cut there"
    examples = (f"{table['origin'][row]}: {table[name][row]}" for row in rows.tolist())
    cure = "export them whole (a column's width, a preview)"
    share = share_of(len(rows), len(table))
    findings.add("cut_texts", len(rows), note, examples, cure, share)


def _cut(column: pa.ChunkedArray) -> tuple[np.ndarray, int]:
    """int64 [n]: the rows of the greatest length, none where it is that of few or of fixed forms; and it."""
    lengths = pc.fill_null(pc.utf8_length(column), 0).to_numpy()
    longest = int(lengths.max(initial=0))
    rows = np.flatnonzero(lengths == longest)
    below = np.count_nonzero(lengths >= longest - _BELOW) - len(rows)
    enough = len(rows) >= max(_LEAST_ROWS, _LEAST_SHARE * len(lengths), _TIMES * below / _BELOW)
    if not enough or not _of_free_form(column.take(pa.array(rows)).to_pylist()):
        rows = rows[:0]
    return rows, longest


def _of_free_form(texts: Sequence[str]) -> bool:
    """Whether texts of one length differ in their number of words, which is mostly three or more."""
    numbers = Counter(len(text.split()) for text in texts)
    often = [number for number, count in numbers.items() if count >= _SHARE_OF_NUMBER * len(texts)]
    return len(often) >= _LEAST_NUMBERS and max(numbers, key=lambda one: numbers[one]) >= _LEAST_WORDS
