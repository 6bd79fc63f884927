"""Images that are nearly equal: hashes find candidates, their own pixels decide.

Legend: N images, P pairs, S the side of the small pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import pyarrow as pa

from retrainer.data.images import of_each_file
from retrainer.data.similar.buckets import Buckets, Links, distinct_values, with_copies
from retrainer.data.similar.frequencies import GREY, Frequencies
from retrainer.data.similar.moved import Candidates, maybe_moved, unmoved
from retrainer.data.similar.pixels import (
    SIDE,
    agreement,
    background,
    correlation,
    larger_pixels,
    shown,
    small_pixels,
)

# Images with fewer pixels that show something show nothing to compare: blank scans, flat colours.
_LEAST_PIXELS = 32
# Least correlation of the compared pixels, and least agreement of the blocks: of images as they are, and of
# two that lie on each other in the best of many ways. Set by looking: see benchmarks/trust.
LEAST_CORRELATION, LEAST_AGREEMENT = 0.9, 0.6
_LEAST_MOVED, _LEAST_AGREEMENT_MOVED = 0.96, 0.7
_BITS = 64
# Pairs given of one image, at least; of more that are alike, only such pairs as link what is not linked yet.
_GIVEN = 32
# An image meets so many that follow it in a bucket: all of them, unless thousands share one, as the frames
# of a film do. Without a bound their number would count squared.
_NEIGHBOURS = 1024
_BLOCK = 1024
# Of a set of figures with one frame all look alike at first: two that have each disagreed with so many others
# are not compared. Else their number would count squared.
_MOST_DISAGREED = 256
# Pairs whose larger pixels are compared at once; images whose larger pixels are kept for the next pairs.
_LARGER_BLOCK, _LARGER_KEPT = 128, 4096
_PAIRS = 1 << 18
_FREQUENCIES = Frequencies(SIDE, _BITS)


def similar_images(images: pa.ChunkedArray, most_bits: int) -> np.ndarray:
    """Pairs of images of nearly the same pixels: int64 [P, 2], first < second, sorted.

    `images` holds structs of `bytes` and `path`. Candidates are images whose 64-bit perceptual hashes
    (Zauner, 2010) differ in at most `most_bits`, and those that may be mirrored, moved or cropped (`moved`).
    Each is then compared by its own pixels. An image that cannot be read, or shows nothing, is like no other.
    """
    found = of_each_file(images, _thumbnail, None)
    rows = np.array([row for row, pixels in enumerate(found) if pixels], np.int64)
    if not len(rows):
        return np.empty((0, 2), np.int64)
    distinct, which = distinct_values([pixels for pixels in found if pixels])
    pixels = np.frombuffer(b"".join(distinct), np.uint8).reshape(-1, SIDE, SIDE, 3)
    first = rows[np.unique(which, return_index=True)[1]]
    encoded = [chunk.flatten()[0] for chunk in images.chunks]
    starts = np.cumsum([0, *map(len, encoded)])

    def bytes_of(value: int) -> pa.Buffer:
        chunk = int(np.searchsorted(starts, first[value], "right")) - 1
        return encoded[chunk][int(first[value] - starts[chunk])].as_buffer()

    return rows[with_copies(_Search(pixels, bytes_of).pairs(most_bits), which)]


def image_similarity(one: bytes, other: bytes) -> float:
    """Correlation of two encoded images' small pixels as they lie on each other best; 0 where it is too low,
    one cannot be read or is blank, or some of their blocks do not agree."""
    found = [_thumbnail(encoded) for encoded in (one, other)]
    if None in found:
        return 0.0
    pixels = np.stack([np.frombuffer(some or b"", np.uint8).reshape(SIDE, SIDE, 3) for some in found])
    search = _Search(pixels, (one, other).__getitem__)
    ways = [unmoved(np.array([[0, 1]])), *maybe_moved(pixels)]
    return float(max(search.similarity(way).max(initial=0.0) for way in ways))


def _thumbnail(encoded: pa.Buffer | bytes) -> bytes | None:
    """uint8 [S, S, 3], upright; None where the image cannot be read or shows nothing."""
    pixels = small_pixels(encoded)
    if pixels is None:
        return None
    seen = shown(pixels[None], background(pixels[None]))
    return pixels.tobytes() if np.count_nonzero(seen) >= _LEAST_PIXELS else None


class _Search:
    """Images of different small pixels, uint8 [N, S, S, 3]; `encoded` gives the file of one."""

    def __init__(self, small: np.ndarray, encoded: Callable[[int], pa.Buffer | bytes]) -> None:
        self._small = small
        self._background = _in_blocks(background, small)
        self._larger = lru_cache(_LARGER_KEPT)(lambda row: larger_pixels(encoded(row)))

    def pairs(self, most_bits: int) -> np.ndarray:
        """int64 [P, 2]: all pairs of images that are alike, or of many alike enough to link them all."""
        found: list[np.ndarray] = [np.empty((0, 2), np.int64)]
        links = Links(len(self._small), _GIVEN)
        disagreed: np.ndarray = np.zeros(len(self._small), np.int64)
        for candidates in self._candidates(most_bits):
            for start in range(0, len(candidates.pairs), _BLOCK):
                pairs = links.undecided(candidates.pairs[start : start + _BLOCK])
                pairs = pairs[disagreed[pairs].min(axis=1) < _MOST_DISAGREED]
                if len(pairs):
                    similarity = self.similarity(candidates.only(pairs))
                    alike = np.sort(pairs[similarity > 0], axis=1)
                    links.add(alike)
                    found.append(alike)
                    np.add.at(disagreed, pairs[similarity < 0], 1)
        return np.unique(np.concatenate(found), axis=0)

    def _candidates(self, most_bits: int) -> Iterator[Candidates]:
        yield from map(unmoved, _near(_in_blocks(_hashes, self._small), most_bits))
        yield from maybe_moved(self._small)

    def similarity(self, candidates: Candidates) -> np.ndarray:
        """float64 [P]: the correlation of the two; 0 where it is too low, -1 where their blocks do not
        agree."""
        one, other = candidates.windows(*(self._small[rows] for rows in candidates.pairs.T))
        seen = [
            shown(some, self._background[rows])
            for some, rows in zip((one, other), candidates.pairs.T, strict=True)
        ]
        found = correlation(one, other, seen[0] | seen[1])
        found[found < (_LEAST_MOVED if candidates.moved else LEAST_CORRELATION)] = 0
        if candidates.moved:
            close = np.flatnonzero(found)
            found[close[agreement(one[close], other[close]) < _LEAST_AGREEMENT_MOVED]] = -1
        close = np.flatnonzero(found > 0)
        for start in range(0, len(close), _LARGER_BLOCK):
            some = close[start : start + _LARGER_BLOCK]
            found[some[self._disagree(candidates.only(candidates.pairs[some]))]] = -1
        return found

    def _disagree(self, candidates: Candidates) -> np.ndarray:
        """bool [P]: whether their larger pixels do not agree; False where an image is no larger."""
        pixels = [[self._larger(int(row)) for row in pair] for pair in candidates.pairs]
        known = [at for at, (one, other) in enumerate(pixels) if one is not None and other is not None]
        disagree: np.ndarray = np.zeros(len(pixels), bool)
        if known:
            sides = (np.stack([pixels[at][side] for at in known]) for side in (0, 1))
            least = _LEAST_AGREEMENT_MOVED if candidates.moved else LEAST_AGREEMENT
            disagree[known] = agreement(*candidates.windows(*sides)) < least
        return disagree


def _in_blocks(of: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """`of` as if of all at once, with the memory of a few."""
    return np.concatenate([of(block) for block in np.array_split(pixels, len(pixels) // _BLOCK + 1)])


def _hashes(pixels: np.ndarray) -> np.ndarray:
    """uint8 [N, S, S, 3] → uint64 [N]: which lowest frequencies of grey are above their median."""
    waves = _FREQUENCIES.of(pixels @ GREY)
    above = waves > np.median(waves, axis=1, keepdims=True)
    return (above << np.arange(_BITS, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)


def _near(hashes: np.ndarray, most_bits: int) -> Iterator[np.ndarray]:
    """Blocks of int64 [P, 2], first < second, each once: pairs that differ in at most `most_bits`.

    Of most_bits + 1 bands of the bits, one is equal in both of such a pair (Manku et al., 2007).
    """
    bands = [sum(1 << bit for bit in range(band, _BITS, most_bits + 1)) for band in range(most_bits + 1)]
    earlier: list[Buckets] = []
    for mask in np.array(bands, np.uint64):
        buckets = Buckets(hashes & mask, _NEIGHBOURS)
        for pairs in buckets.pairs(_PAIRS):
            near = pairs[np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]) <= most_bits]
            for before in earlier:
                near = near[~before.meet(near)]
            yield near
        earlier.append(buckets)
