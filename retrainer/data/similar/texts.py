"""Texts that are nearly equal: MinHash in bands finds candidates, their own shingles decide.

Legend: N rows, S shingles, P pairs, F hash functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from retrainer.data.similar.buckets import (
    distinct_values,
    nearest,
    pairs_of_buckets,
    unique_pairs,
    with_copies,
)
from retrainer.data.splits import normalised

# Characters of a shingle: a word or so. One changed letter changes five shingles, so that of texts of fewer
# than 45 letters only equal ones reach a similarity of 0.8: "not good" is no copy of "so good".
_SHINGLE = 5
_NO_WORD = re.compile(r"[\W_]+")
# A pair of exactly the asked similarity is missed once in so many times.
_MISSES = 1e-3
_MOST_FUNCTIONS = 128
# A row of a bucket is compared with so many that follow it in the order of their texts, and with the first;
# of all whom it meets so, with so many it is measured exactly: those of the likest signatures.
_NEIGHBOURS = 8
# Shingles of one block: its hashes stay in the processor's cache.
_BLOCK = 1 << 18
# The estimate of a similarity from F hashes may err by so many standard deviations before it counts.
_SIGMAS = 4.0


def similar_texts(texts: Sequence[str], least: float) -> np.ndarray:
    """Pairs of texts of Jaccard similarity `least` or more: int64 [P, 2], first < second, sorted.

    Candidates come from MinHash (Broder, 1997) in bands (Leskovec et al., Mining of Massive Datasets, ch. 3);
    each is then measured on its own shingles, so no pair is a wrong one. A pair of exactly `least` is missed
    once in a thousand times, a closer one less often.
    """
    words = [plain_words(text) for text in texts]
    distinct, which = distinct_values(words)
    bands = _bands(least)
    signatures = _signatures(distinct, bands)
    near = _candidates(signatures, bands, least)
    shingles = lru_cache(maxsize=4096)(lambda row: _shingles(distinct[row]))
    found = [pair for pair in near.tolist() if _jaccard(shingles(pair[0]), shingles(pair[1])) >= least]
    return with_copies(np.array(found, np.int64).reshape(-1, 2), which)


def text_similarity(one: str, other: str) -> float:
    """Jaccard similarity of two texts' shingles, 0 to 1: what `similar_texts` judges by."""
    return _jaccard(_shingles(plain_words(one)), _shingles(plain_words(other)))


def plain_words(text: str) -> str:
    """The words alone: case, white space and punctuation make no difference, unless there is nothing else."""
    folded = normalised(text)
    return _NO_WORD.sub(" ", folded).strip() or folded


def _shingles(words: str) -> frozenset[str]:
    padded = f" {words} "
    return frozenset(padded[at : at + _SHINGLE] for at in range(max(1, len(padded) - _SHINGLE + 1)))


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def _bands(least: float) -> tuple[int, int]:
    """(bands, hashes of a band): as many hashes a band as _MOST_FUNCTIONS allow at the share of misses."""
    best = (1, 1)
    for rows in range(1, _MOST_FUNCTIONS + 1):
        alike = least**rows
        bands = 1 if alike >= 1 else math.ceil(math.log(_MISSES) / math.log1p(-alike))
        if bands * rows <= _MOST_FUNCTIONS:
            best = (bands, rows)
    return best


def _signatures(texts: Sequence[str], bands: tuple[int, int]) -> np.ndarray:
    """uint32 [N, F]: per text and hash function the smallest hash of its shingles."""
    functions: np.ndarray = _mixed(np.arange(2 * bands[0] * bands[1], dtype=np.uint64)).astype(np.uint32)
    factors, masks = functions[0::2] | np.uint32(1), functions[1::2]
    signatures: np.ndarray = np.empty((len(texts), len(factors)), np.uint32)
    for start, stop in _blocks([max(1, len(text) + 3 - _SHINGLE) for text in texts]):
        hashes, offsets = _hashed_shingles(texts[start:stop])
        for at, (factor, mask) in enumerate(zip(factors, masks, strict=True)):
            signatures[start:stop, at] = np.minimum.reduceat((hashes ^ mask) * factor, offsets)
    return signatures


def _blocks(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of rows of at most _BLOCK shingles each, or of one row."""
    start = total = 0
    for row, size in enumerate(sizes):
        if row > start and total + size > _BLOCK:
            yield start, row
            start, total = row, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)


def _hashed_shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """uint32 [S] hashes of all shingles in order, and int64 [N]: where each text's begin."""
    padded = [f" {text} ".ljust(_SHINGLE) for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    ends = np.cumsum([len(text) for text in padded])
    whole: np.ndarray = np.zeros(len(codes) - _SHINGLE + 1, np.uint64)
    for at in range(_SHINGLE):
        whole = whole * np.uint64(0x100000001B3) + codes[at : len(codes) - _SHINGLE + 1 + at]
    inside: np.ndarray = np.ones(len(codes), bool)
    for at in range(1, _SHINGLE):
        inside[ends - at] = False
    counts = np.diff(ends, prepend=0) - _SHINGLE + 1
    offsets = np.cumsum(counts) - counts
    return (_mixed(whole[inside[: len(whole)]]) >> np.uint64(32)).astype(np.uint32), offsets


def _mixed(values: np.ndarray) -> np.ndarray:
    """uint64 → uint64, every bit of the input stirred into every bit (splitmix64; Steele et al., 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _candidates(signatures: np.ndarray, bands: tuple[int, int], least: float) -> np.ndarray:
    """int64 [P, 2] pairs that share a band and whose signatures agree about as much as `least`."""
    functions = signatures.shape[1]
    enough = math.ceil(functions * least - _SIGMAS * math.sqrt(functions * least * (1 - least)))
    found = []
    for band in range(bands[0]):
        key: np.ndarray = np.zeros(len(signatures), np.uint64)
        for column in signatures[:, band * bands[1] : (band + 1) * bands[1]].T:
            key = _mixed(key ^ column.astype(np.uint64))
        found += list(pairs_of_buckets(key, _NEIGHBOURS))
    pairs = unique_pairs(found, len(signatures))
    agreeing = np.concatenate(
        [
            np.count_nonzero(signatures[block[:, 0]] == signatures[block[:, 1]], axis=1)
            for block in np.array_split(pairs, len(pairs) * functions // _BLOCK + 1)
        ]
    )
    kept = agreeing >= enough
    return nearest(pairs[kept], -agreeing[kept], _NEIGHBOURS)
