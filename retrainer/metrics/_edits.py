"""Edit distance (Levenshtein 1966): substitutions, deletions and insertions from a reference to a guess.

Legend: N pairs, R the longest reference, G the longest guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

# Pairs of similar length are computed together, so many cells at a time.
_CELLS_AT_ONCE = 1 << 22
_SPACES = re.compile(r"\s\s+")


def words(text: str | None) -> list[str]:
    """Parted as jiwer does by default: at single spaces, once runs of white space have become one."""
    return [word for word in _SPACES.sub(" ", text or "").strip().split(" ") if word]


def characters(text: str | None) -> list[str]:
    """As jiwer does by default: all but white space at either end."""
    return list((text or "").strip())


def edit_counts(references: Sequence[Sequence[str]], guesses: Sequence[Sequence[str]]) -> np.ndarray:
    """float64 [N, 2]: the fewest edits of each pair, and the reference's length."""
    lengths = np.array([[len(r), len(g)] for r, g in zip(references, guesses, strict=True)]).reshape(-1, 2)
    counts = np.zeros((len(lengths), 2))
    counts[:, 1] = lengths[:, 0]
    order = np.lexsort((lengths[:, 0], lengths[:, 1]))
    for rows in _parts(order, lengths):
        counts[rows, 0] = _distances([references[i] for i in rows], [guesses[i] for i in rows], lengths[rows])
    return counts


def error_rate(sums: np.ndarray) -> np.ndarray:
    """Sums [..., 2] of `edit_counts` → edits a unit [...]; their number where there is no unit (jiwer)."""
    rate: np.ndarray = sums[..., 0] / np.maximum(sums[..., 1], 1.0)
    return rate


def _parts(order: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    widest = int(lengths[:, 1].max(initial=0)) + 1
    size = max(1, _CELLS_AT_ONCE // widest)
    return [order[start : start + size] for start in range(0, len(order), size)]


def _distances(
    references: list[Sequence[str]], guesses: list[Sequence[str]], lengths: np.ndarray
) -> np.ndarray:
    """int64 [N]: one row of every pair's table at a time."""
    codes: dict[str, int] = {}
    left, right = (_codes(texts, codes) for texts in (references, guesses))
    columns = np.arange(right.shape[1] + 1)
    row = np.tile(columns, (len(references), 1))
    answer = row[np.arange(len(row)), lengths[:, 1]]  # of an empty reference
    for place in range(left.shape[1]):
        best = np.minimum(row + 1, np.pad(row[:, :-1] + (left[:, place, None] != right), ((0, 0), (1, 0))))
        best[:, 0] = place + 1
        # An insertion costs one a column: the least of all cells to the left, each that far away.
        row = np.minimum.accumulate(best - columns, axis=1) + columns
        ends = lengths[:, 0] == place + 1
        answer[ends] = row[ends, lengths[ends, 1]]
    return answer


def _codes(texts: list[Sequence[str]], codes: dict[str, int]) -> np.ndarray:
    """int64 [N, longest]; -1 behind the end."""
    array: np.ndarray = np.full((len(texts), max(map(len, texts), default=0)), -1)
    for row, text in enumerate(texts):
        array[row, : len(text)] = [codes.setdefault(unit, len(codes)) for unit in text]
    return array


def alignment(reference: Sequence[str], guess: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """The fewest edits, in order: (unit, other) substituted, (unit, None) deleted, (None, unit) inserted.

    What is equal does not stand in it. Of several ways it prefers substitutions, from the end.
    """
    table = _table(reference, guess)
    edits: list[tuple[str | None, str | None]] = []
    i, j = len(reference), len(guess)
    while i or j:
        if i and j and table[i][j] == table[i - 1][j - 1] + (reference[i - 1] != guess[j - 1]):
            i, j = i - 1, j - 1
            edits += [(reference[i], guess[j])] if reference[i] != guess[j] else []
        elif i and table[i][j] == table[i - 1][j] + 1:
            i -= 1
            edits.append((reference[i], None))
        else:
            j -= 1
            edits.append((None, guess[j]))
    return edits[::-1]


def _table(reference: Sequence[str], guess: Sequence[str]) -> list[list[int]]:
    """The distance from each beginning of the reference to each of the guess."""
    table = [list(range(len(guess) + 1))]
    for i, unit in enumerate(reference, 1):
        row, above = [i], table[-1]
        for j, other in enumerate(guess, 1):
            row.append(min(above[j - 1] + (unit != other), above[j] + 1, row[j - 1] + 1))
        table.append(row)
    return table
