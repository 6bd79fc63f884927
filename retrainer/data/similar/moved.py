"""Copies of an image that are mirrored, moved or cropped by a little: candidates, and how the two overlap.

A window of the small pixels is hashed in every place that it can have. Of a moved copy the middle window
shows what another window of the original shows, of a cropped one what a smaller window shows, and of a
mirrored one the mirror image: so the middle of each image is looked up among the windows of all others.

Legend: N images, P pairs, K places, S the side of the small pixels, W that of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from retrainer.data.similar.frequencies import GREY, lowest
from retrainer.data.similar.pixels import SIDE

# A window may be moved by so many of the small pixels, each way.
MOST = 3
_WINDOW = SIDE - 2 * MOST
# By how much a cropped copy is larger, and by how many small pixels its middle may be moved.
_ZOOMS = ((0.95, 1), (0.9, 0))
_BITS = 64
# Windows may differ in so many bits; then one of the bands is equal (Manku et al., 2007).
_MOST_BITS = 4
_BANDS = _MOST_BITS + 1
# A window meets so many of a bucket, and four times as many as there would be were all as full: all of them,
# unless hundreds of images are alike.
_MET = 64
_BLOCK = 1024
# A pixel between two others is so many parts of the one, and the rest of the other.
_PARTS = 64
_FREQUENCIES = lowest(_WINDOW, _BITS)
# Neighbours in frequency are in different bands, so that each band has low and high ones.
_ORDER = [at for band in range(_BANDS) for at in range(band, _BITS, _BANDS)]
_ROWS, _COLUMNS = (np.array([_FREQUENCIES[at][axis] for at in _ORDER]) for axis in (0, 1))
_WIDTHS = [len(range(band, _BITS, _BANDS)) for band in range(_BANDS)]
# A mirror image has the negative of every coefficient that is odd from left to right.
_MIRROR = np.uint64(sum(1 << bit for bit in range(_BITS) if _COLUMNS[bit] % 2))
_HEIGHT = 1 + max(_ROWS.max(), _COLUMNS.max())


@dataclass(frozen=True)
class Places:
    """The windows of one size: `zoom` times the middle one's, moved by up to `most` small pixels each way."""

    zoom: float
    most: int

    @property
    def count(self) -> int:
        return 2 * self.most + 1

    def samples(self, scale: int = 1) -> np.ndarray:
        """float64 [K, W, S]: of which pixels, in parts of _PARTS, a row or column of a window is made; pixels
        and windows of `scale` times the side."""
        return _samples(self, scale)

    @cached_property
    def waves(self) -> np.ndarray:
        """float64 [K * frequencies, S]: cosines of every place, as whole numbers, whose sums are exact."""
        angles = np.pi * np.outer(np.arange(_HEIGHT), 2 * np.arange(_WINDOW) + 1) / (2 * _WINDOW)
        return (np.round(64 * np.cos(angles)) @ self.samples()).reshape(-1, SIDE)

    def hashes(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [N, S, S, 3] → uint64 [K, K, N]: of each window, down and right, which lowest frequencies of
        grey are above 0."""
        blocks = np.array_split(pixels, len(pixels) // _BLOCK + 1)
        return np.concatenate([self._hashes(some) for some in blocks], axis=2)

    def _hashes(self, pixels: np.ndarray) -> np.ndarray:
        count = self.count
        found = (self.waves @ (pixels @ GREY) @ self.waves.T).reshape(-1, count, _HEIGHT, count, _HEIGHT)
        bits = found.transpose(1, 3, 0, 2, 4)[..., _ROWS, _COLUMNS] > 0
        packed = np.ascontiguousarray(np.packbits(bits, axis=-1, bitorder="little"))
        return packed.view("<u8")[..., 0].astype(np.uint64)

    def window(self, pixels: np.ndarray, down: int, right: int) -> np.ndarray:
        """One window each, uint8 [P, W, W, 3], of uint8 [P, S, S, 3] or of pixels of a multiple of the
        side."""
        scale = pixels.shape[1] // SIDE
        if self.zoom == 1:  # whole pixels
            top, left = scale * (MOST + down), scale * (MOST + right)
            return pixels[:, top : top + scale * _WINDOW, left : left + scale * _WINDOW]
        samples = self.samples(scale)
        rows, columns = samples[self.most + down], samples[self.most + right]
        channels = rows @ pixels.transpose(0, 3, 1, 2).astype(np.float64) @ columns.T
        return np.minimum(channels // _PARTS**2, 255).astype(np.uint8).transpose(0, 2, 3, 1)


@lru_cache
def _samples(places: Places, scale: int) -> np.ndarray:
    moved: np.ndarray = scale * np.arange(-places.most, places.most + 1)[:, None]
    window, side = scale * _WINDOW, scale * SIDE
    at = (side - 1) / 2 + moved + places.zoom * (np.arange(window) - (window - 1) / 2)
    return np.round(_PARTS * np.clip(1 - np.abs(at[..., None] - np.arange(side)), 0, None))


_MOVED = Places(1.0, MOST)


@dataclass(frozen=True)
class Candidates:
    """Pairs int64 [P, 2]: the first one's window in a place, `mirrored` or not, may show what the middle of
    the second shows. Without `places` they are compared whole, as they are."""

    pairs: np.ndarray
    places: Places | None = None
    down: int = 0
    right: int = 0
    mirrored: bool = False

    @property
    def moved(self) -> bool:
        return self.places is not None

    def only(self, pairs: np.ndarray) -> Candidates:
        """These pairs of them."""
        return replace(self, pairs=pairs)

    def windows(self, one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the pixels of the pairs' two images what is compared; of side S, or of a multiple of it."""
        if self.places is None:
            return one, other
        mine = self.places.window(one, self.down, self.right)
        return mine[:, :, ::-1] if self.mirrored else mine, _MOVED.window(other, 0, 0)


def unmoved(pairs: np.ndarray) -> Candidates:
    """Pairs that are compared as they are."""
    return Candidates(pairs)


def maybe_moved(pixels: np.ndarray) -> Iterator[Candidates]:
    """Candidates among uint8 [N, S, S, 3]. A pair may come more than once, moved in two ways.

    Of two moved copies either may be taken for the original, so half of the places are enough; of a cropped
    copy only the original has the window.
    """
    hashes = _MOVED.hashes(pixels)
    middle = hashes[MOST, MOST]
    bands = list(_bands(middle))
    for places in (_MOVED, *(Places(zoom, most) for zoom, most in _ZOOMS)):
        hashes = hashes if places is _MOVED else places.hashes(pixels)
        for down in range(-places.most if places.zoom < 1 else 0, places.most + 1):
            for right in range(-places.most, places.most + 1):
                windows = hashes[places.most + down, places.most + right]
                for mirrored in (False, True):
                    if places.zoom < 1 or mirrored or (down, right) >= (0, 0):
                        flipped = windows ^ _MIRROR if mirrored else windows
                        pairs = np.concatenate([_near(flipped, middle, *band) for band in bands])
                        if len(pairs):
                            yield Candidates(pairs, places, down, right, mirrored)


def _bands(hashes: np.ndarray) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Of each band: its first bit and width, the rows in the order of its value, int64 [N], and where in it
    each value begins."""
    first = 0
    for width in _WIDTHS:
        values = _value(hashes, first, width)
        counts = np.bincount(values, minlength=1 << width)
        yield first, width, np.argsort(values, kind="stable"), np.concatenate([[0], np.cumsum(counts)])
        first += width


def _value(hashes: np.ndarray, first: int, width: int) -> np.ndarray:
    """int64 [N]: so many bits from the first on."""
    return ((hashes >> np.uint64(first)) & np.uint64((1 << width) - 1)).astype(np.int64)


def _near(
    windows: np.ndarray, middle: np.ndarray, first: int, width: int, order: np.ndarray, begins: np.ndarray
) -> np.ndarray:
    """int64 [P, 2]: (row of a window, row of a middle) within _MOST_BITS that are equal in this band, and in
    none before it."""
    values = _value(windows, first, width)
    counts = np.minimum(begins[values + 1] - begins[values], max(_MET, 4 * len(middle) >> width))
    counts[windows == 0] = 0  # nothing is shown there
    rows: np.ndarray = np.repeat(np.arange(len(windows)), counts)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts - begins[values], counts)
    others = order[places]
    differing = windows[rows] ^ middle[others]
    near = (np.bitwise_count(differing) <= _MOST_BITS) & (rows != others)
    rows, others, differing = rows[near], others[near], differing[near]
    earlier = 0
    for before in _WIDTHS[: -(-first // max(_WIDTHS))]:
        known = _value(differing, earlier, before) == 0
        rows, others, differing = rows[~known], others[~known], differing[~known]
        earlier += before
    return np.stack([rows, others], axis=1)
