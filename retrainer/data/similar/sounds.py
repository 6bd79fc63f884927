"""Recordings that are nearly equal: hashes find candidates, the sounds themselves decide.

Legend: N sounds, P pairs, W words of a hash, B bands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import pyarrow as pa

from retrainer.data.similar.buckets import Buckets, Links
from retrainer.data.similar.spectra import BITS, Heard, heard, similarity, sound_hashes

# Least correlation of a copy. Copies in lossy formats have 0.92 and more, other recordings of one word by one
# voice 0.71 and less: see benchmarks/trust.
LEAST_CORRELATION = 0.8
# Two hashes of one recording differ in so many bits at most, and are equal in one of the bands, of which each
# has every B-th bit: two that differ in 30 of the 256 bits share none once in 3,500 times.
_MOST_BITS, _BANDS = 48, 25
# See `similar.images`: pairs given of one sound, pairs that meet in a bucket, and when to stop comparing
# what is alike at first and then is not.
_GIVEN, _NEIGHBOURS, _MOST_DISAGREED = 32, 1024, 256
_PAIRS, _BLOCK = 1 << 18, 1024
# Sounds that are kept decoded for the next pairs.
_KEPT = 512


def similar_sounds(sounds: pa.ChunkedArray, hashes: np.ndarray | None = None) -> np.ndarray:
    """Pairs of recordings of which one is a copy of the other: int64 [P, 2], first < second, sorted.

    `sounds` holds structs of `bytes` and `path`; `hashes` are their `sound_hashes`, where these are known. A
    sound that cannot be decoded, or is silent, is like no other. Of a recording longer than `spectra.SECONDS`
    its beginning is compared.
    """
    hashes = sound_hashes(sounds) if hashes is None else hashes
    encoded = [one for chunk in sounds.chunks for one in chunk.flatten()[0]]
    decoded = lru_cache(_KEPT)(lambda row: heard(encoded[row].as_buffer()))
    rows = np.flatnonzero(hashes.any(axis=1))
    return rows[_pairs(hashes[rows], lambda at: decoded(int(rows[at])))]


def sound_similarity(one: bytes, other: bytes) -> float:
    """Correlation of two encoded sounds, 0 to 1; 0 where one cannot be decoded."""
    sounds = [heard(encoded) for encoded in (one, other)]
    return similarity(*(sound for sound in sounds if sound)) if all(sounds) else 0.0


def _pairs(hashes: np.ndarray, sound: Callable[[int], Heard | None]) -> np.ndarray:
    """int64 [P, 2] of uint64 [N, W]: all pairs that are alike, or of many alike enough to link them all."""
    found: list[np.ndarray] = [np.empty((0, 2), np.int64)]
    links = Links(len(hashes), _GIVEN)
    disagreed: np.ndarray = np.zeros(len(hashes), np.int64)
    for candidates in _candidates(hashes):
        for start in range(0, len(candidates), _BLOCK):
            pairs = links.undecided(candidates[start : start + _BLOCK])
            pairs = pairs[disagreed[pairs].min(axis=1) < _MOST_DISAGREED]
            alike = np.array([_alike(sound(one), sound(other)) for one, other in pairs], bool)
            links.add(pairs[alike])
            found.append(pairs[alike])
            np.add.at(disagreed, pairs[~alike], 1)
    return np.unique(np.concatenate(found), axis=0)


def _alike(one: Heard | None, other: Heard | None) -> bool:
    return one is not None and other is not None and similarity(one, other) >= LEAST_CORRELATION


def _candidates(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of int64 [P, 2], first < second, each once: pairs that share a band and differ in few bits."""
    bits = np.unpackbits(np.ascontiguousarray(hashes.astype("<u8")).view(np.uint8), axis=1, bitorder="little")
    earlier: list[Buckets] = []
    for band in range(_BANDS):
        mine = bits[:, band:BITS:_BANDS].astype(np.uint64)
        buckets = Buckets(mine @ (1 << np.arange(mine.shape[1], dtype=np.uint64)), _NEIGHBOURS)
        for pairs in buckets.pairs(_PAIRS):
            differing = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]).sum(axis=1)
            near = pairs[differing <= _MOST_BITS]
            for before in earlier:
                near = near[~before.meet(near)]
            yield near
        earlier.append(buckets)
