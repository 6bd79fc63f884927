"""Which rows stand among others, by their keys: also where another month's data has further columns, or the
pictures were saved again.

Legend: N rows that are looked for, M rows among which, W words of a picture's hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from retrainer.formats.row_keys import RowKeys

# Bits of 256 in which the hashes of one picture differ, at most, when it is saved again: see docs/trust.md.
MOST_BITS = 40
# The share of pictures that may be taken for another one, and on how many it is measured.
_ALIKE, _SAMPLE = 0.02, 500
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


def pictured_among(rows: RowKeys, known: RowKeys) -> np.ndarray:
    """bool [N]: the rows whose picture's hash differs from a known one's in no more bits than `most_bits`."""
    words = min(rows.pictures.shape[1], known.pictures.shape[1])
    found: np.ndarray = np.zeros(len(rows.key), bool)
    if not words:
        return found
    ours, theirs = (one.pictures[:, :words] for one in (rows, known))
    shown = np.flatnonzero(ours.any(axis=1))
    theirs = np.unique(theirs[theirs.any(axis=1)], axis=0)
    if len(shown) and len(theirs):
        found[shown] = _fewest_bits(ours[shown], theirs) <= most_bits(theirs)
    return found


def most_bits(hashes: np.ndarray) -> int:
    """In how many bits two hashes of one picture may differ, where uint64 [M, W] are of different ones.

    At most MOST_BITS, and so few that no more than _ALIKE of these pictures are taken for another: all
    drawings of a figure on white look much the same, and photographs do not.
    """
    sample = hashes[:: -(-len(hashes) // _SAMPLE)]
    between = np.sort(_fewest_bits(sample, hashes, least=1))
    return int(np.clip(between[int(_ALIKE * len(between))] - 1, 0, MOST_BITS))


def _fewest_bits(ours: np.ndarray, theirs: np.ndarray, least: int = 0) -> np.ndarray:
    """int64 [N]: of each hash the bits in which it differs from the most similar of uint64 [M, W] that
    differs in `least` or more; all its bits where there is none."""
    most = 64 * ours.shape[1]
    found: np.ndarray = np.full(len(ours), most, np.int64)
    for at in np.array_split(np.arange(len(ours)), len(ours) * len(theirs) // _PAIRS + 1):
        bits: np.ndarray = np.zeros((len(at), len(theirs)), np.uint16)
        for word in range(ours.shape[1]):
            bits += np.bitwise_count(ours[at, word, None] ^ theirs[None, :, word])
        found[at] = np.where(bits < least, most, bits).min(axis=1)
    return found
