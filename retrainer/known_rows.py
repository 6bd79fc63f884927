"""Which rows stand among others, by their keys: also where another month's data has further columns, or the
pictures were saved again.

Legend: N rows that are looked for, M rows among which, W words of a picture's hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from retrainer.formats.row_keys import RowKeys

# Bits in which the hashes of one picture differ, at most, when it is saved again. Of 256: see docs/trust.md.
MOST_BITS = 24
# Pairs that are compared at once.
_PAIRS = 1 << 22
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def stand_among(rows: RowKeys, known: RowKeys) -> np.ndarray:
    """bool [N]: the rows whose content is that of a known one, by the inputs that both have.

    Where a known row has the same inputs (the columns that the task reads), all of them decide; where it has
    others, those that both have. A known row of version 1, of which the inputs are not named, has the content
    of all inputs, or of one.
    """
    found: np.ndarray = np.zeros(len(rows.key), bool)
    for names, part in _by_inputs(known):
        both = [name for name in names if name in rows.inputs]
        if not names or not rows.inputs:
            ours, theirs = ([one.key, *one.inputs.values()] for one in (rows, part))
            found |= np.isin(np.stack(ours), np.concatenate(theirs)).any(axis=0)
        elif len(both) == len(names) == len(rows.inputs):
            found |= np.isin(rows.key, part.key)
        elif both:
            found |= np.isin(_together(rows, both), _together(part, both))
    return found


def _by_inputs(known: RowKeys) -> Iterator[tuple[list[str], RowKeys]]:
    """The known rows by the names of the inputs that are known of them: a model may have inherited others."""
    names = list(known.inputs)
    if not names:
        yield [], known
        return
    patterns = np.stack([known.inputs[name] != 0 for name in names], axis=1)
    for pattern in np.unique(patterns, axis=0):
        part = known.take((patterns == pattern).all(axis=1))
        yield [name for name, has in zip(names, pattern, strict=True) if has], part


def _together(rows: RowKeys, names: Sequence[str]) -> np.ndarray:
    """uint64 [N]: one hash of these inputs."""
    found: np.ndarray = np.zeros(len(rows.key), np.uint64)
    for name in sorted(names):
        found = (found ^ rows.inputs[name]) * _FACTOR
        found ^= found >> np.uint64(29)
    return found


def pictured_among(rows: RowKeys, known: RowKeys, most_bits: int = MOST_BITS) -> np.ndarray:
    """bool [N]: the rows whose picture's hash differs from a known one's in at most `most_bits` bits."""
    words = min(rows.pictures.shape[1], known.pictures.shape[1])
    found: np.ndarray = np.zeros(len(rows.key), bool)
    shown = np.flatnonzero(rows.pictures.any(axis=1)) if words else np.zeros(0, np.int64)
    theirs = known.pictures[known.pictures.any(axis=1)] if words else known.pictures
    if not len(theirs):
        return found
    for at in np.array_split(shown, len(shown) * len(theirs) // _PAIRS + 1):
        bits: np.ndarray = np.zeros((len(at), len(theirs)), np.uint16)
        for word in range(words):
            bits += np.bitwise_count(rows.pictures[at, word, None] ^ theirs[None, :, word])
        found[at] = (bits <= most_bits).any(axis=1)
    return found
