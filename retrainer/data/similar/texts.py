"""Texts that are nearly equal: MinHash in bands finds candidates, their own shingles decide.

Legend: N rows, S shingles, P pairs, F hash functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from retrainer.data.similar.buckets import (
    Buckets,
    Links,
    distinct_values,
    joined_blocks,
    mixed,
    with_copies,
)
from retrainer.data.similar.spelling import respelled_pairs
from retrainer.data.splits import normalised

# Characters of a shingle: a word or so. One changed letter changes five shingles, so that of texts of fewer
# than 45 letters only equal ones reach a similarity of 0.8: "not good" is no copy of "so good".
_SHINGLE = 5
_NO_WORD = re.compile(r"[\W_]+")
# A pair of exactly the asked similarity is missed once in so many times.
_MISSES = 1e-3
_MOST_FUNCTIONS = 128
# Pairs given of one text, at least; of more that are alike, only such pairs as link what is not linked yet.
_GIVEN = 32
# A text meets so many that follow it in a bucket, in the order of the texts: all of them, unless thousands
# share one, as form letters may. Without a bound their number would count squared.
_NEIGHBOURS = 1024
# Shingles of one block: its hashes stay in the processor's cache.
_BLOCK = 1 << 18
# Pairs whose signatures are compared at once; that are measured before those now linked are passed over.
_PAIRS, _MEASURED = 1 << 14, 1 << 17
# The estimate of a similarity from F hashes may err by so many standard deviations before it counts.
_SIGMAS = 4.0


def similar_texts(texts: Sequence[str], least: float) -> np.ndarray:
    """Pairs of texts of Jaccard similarity `least` or more: int64 [P, 2], first < second, sorted.

    Candidates come from MinHash (Broder, 1997) in bands (Leskovec et al., Mining of Massive Datasets, ch. 3);
    each is then measured on its own shingles, so no pair is a wrong one. A pair of exactly `least` is missed
    once in a thousand times, a closer one less often. Below 1, texts that differ only in their spelling are
    pairs too (`spelling`), enough of them to link all.
    """
    words = [plain_words(text) for text in texts]
    distinct, which = distinct_values(words)
    found: list[np.ndarray] = [np.empty((0, 2), np.int64)]
    links = Links(len(distinct), _GIVEN)
    signatures = _signatures(distinct, _bands(least))
    for near in joined_blocks(_candidates(signatures, _bands(least), least), _MEASURED):
        block = links.undecided(near)
        alike = block[_similarities(distinct, block) >= least]
        links.add(alike)
        found.append(alike)
    if least < 1:
        found.append(respelled_pairs(distinct))
    return with_copies(np.unique(np.concatenate(found), axis=0), which)


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
    functions: np.ndarray = mixed(np.arange(2 * bands[0] * bands[1], dtype=np.uint64)).astype(np.uint32)
    factors, masks = functions[0::2] | np.uint32(1), functions[1::2]
    signatures: np.ndarray = np.empty((len(texts), len(factors)), np.uint32)
    for start, stop in _blocks([max(1, len(text) + 3 - _SHINGLE) for text in texts]):
        hashes, offsets = _hashed_shingles(texts[start:stop])
        short = (hashes >> np.uint64(32)).astype(np.uint32)
        for at, (factor, mask) in enumerate(zip(factors, masks, strict=True)):
            signatures[start:stop, at] = np.minimum.reduceat((short ^ mask) * factor, offsets)
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
    """uint64 [S] hashes of all shingles in order, and int64 [N]: where each text's begin."""
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
    return mixed(whole[inside[: len(whole)]]), offsets


def _similarities(texts: Sequence[str], pairs: np.ndarray) -> np.ndarray:
    """float64 [P]: the Jaccard similarity of each of int64 [P, 2]; shingles are known by 64-bit hashes."""
    if not len(pairs):
        return np.empty(0)
    rows, at = np.unique(pairs, return_inverse=True)
    one, other = at.reshape(-1, 2).T
    shingles, begins, sizes = _distinct_shingles([texts[row] for row in rows])
    common: np.ndarray = np.empty(len(pairs), np.int64)
    mine: np.ndarray = np.zeros(shingles.max() + 1, bool)
    starts = np.flatnonzero(np.diff(one, prepend=-1))
    for start, stop in pairwise([*starts, len(one)]):
        first, partners = one[start], other[start:stop]
        own = shingles[begins[first] : begins[first] + sizes[first]]
        mine[own] = True
        offsets = np.cumsum(sizes[partners]) - sizes[partners]
        places = np.repeat(begins[partners] - offsets, sizes[partners]) + np.arange(sizes[partners].sum())
        common[start:stop] = np.add.reduceat(mine[shingles[places]], offsets, dtype=np.int64)
        mine[own] = False
    return common / (sizes[one] + sizes[other] - common)


def _distinct_shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int64: numbers of each text's distinct shingles, one text after the other; where each text's begin; how
    many it has."""
    hashes, offsets = _hashed_shingles(texts)
    known, numbers = np.unique(hashes, return_inverse=True)
    text: np.ndarray = np.repeat(np.arange(len(texts)), np.diff(offsets, append=len(hashes)))
    text, shingles = np.divmod(np.unique(text * len(known) + numbers), len(known))
    sizes = np.bincount(text, minlength=len(texts))
    return shingles, np.cumsum(sizes) - sizes, sizes


def _candidates(signatures: np.ndarray, bands: tuple[int, int], least: float) -> Iterator[np.ndarray]:
    """Blocks of int64 [P, 2], each pair once, that share a band and agree in about `least` of all hashes."""
    functions = signatures.shape[1]
    enough = math.ceil(functions * least - _SIGMAS * math.sqrt(functions * least * (1 - least)))
    earlier: list[Buckets] = []
    for band in range(bands[0]):
        buckets = Buckets(_band_key(signatures[:, band * bands[1] : (band + 1) * bands[1]]), _NEIGHBOURS)
        for pairs in buckets.pairs(_PAIRS):
            for before in earlier:
                pairs = pairs[~before.meet(pairs)]
            agreeing = np.count_nonzero(signatures[pairs[:, 0]] == signatures[pairs[:, 1]], axis=1)
            yield pairs[agreeing >= enough]
        earlier.append(buckets)


def _band_key(signatures: np.ndarray) -> np.ndarray:
    """uint64 [N]: equal where two texts agree in all hashes of the band, uint32 [N, F]."""
    key: np.ndarray = np.zeros(len(signatures), np.uint64)
    for column in signatures.T:
        key = mixed(key ^ column.astype(np.uint64))
    return key
