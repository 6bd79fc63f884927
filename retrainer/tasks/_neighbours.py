"""Test rows that a network sees as it sees a training row: leaks that equal words or pixels did not show.

Legend: N test rows, M training rows, D feature width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The least cosine of a pair. A trained network sees all rows of a class nearly alike, so that a cosine alone
# says little: a pair is also to be closer by far than the test row's further neighbours.
LEAST_COSINE = 0.95
_NEIGHBOURS = 5
_CLOSER = 0.1
# Of a distance in float32: what is less is noise.
_NOISE = 1e-6
# Features compared at once: 4 MB of similarities.
_TEST_BLOCK, _TRAIN_BLOCK = 512, 2048


@dataclass(frozen=True)
class Neighbours:
    """By falling similarity: test rows int64 [n], each with its nearest training row int64 [n], and the
    cosine of the two, float32 [n]."""

    test: np.ndarray
    train: np.ndarray
    cosine: np.ndarray


def nearest(test: np.ndarray, train: np.ndarray) -> Neighbours:
    """The test rows [N, D] that have a near-duplicate among the training rows [M, D].

    A near-duplicate has a cosine similarity of LEAST_COSINE or more, and its cosine distance is less than a
    tenth of that of the 5th nearest training row (or of the last, where there are fewer). So one of a whole
    family of alike rows is none: such a row gives little away that the others do not.

    Features are taken from the training rows' mean: those of one network share a large part. Block by
    block: besides the features themselves, memory does not grow with N times M.
    """
    cosines, which = nearest_rows(test, train, _NEIGHBOURS)
    distance = np.maximum(1 - cosines, _NOISE)
    close = (cosines[:, 0] >= LEAST_COSINE) & (distance[:, 0] < _CLOSER * distance[:, -1])
    rows = np.flatnonzero(close)
    rows = rows[np.argsort(-cosines[rows, 0], kind="stable")]
    return Neighbours(rows, which[rows, 0], cosines[rows, 0])


def nearest_rows(test: np.ndarray, train: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines float32 [N, n] of the n nearest training rows by falling cosine, and int64 [N, n]: which.

    n is `count`, or M where that is less. Features are taken from the training rows' mean.
    """
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    test, train = _unit(test - mean), _unit(train - mean)
    count = min(count, len(train))
    found, places = [], []
    for start in range(0, len(test), _TEST_BLOCK):
        part = test[start : start + _TEST_BLOCK]
        best: np.ndarray = np.full((len(part), count), -np.inf, np.float32)
        which: np.ndarray = np.zeros((len(part), count), np.int64)
        for first in range(0, len(train), _TRAIN_BLOCK):
            block = train[first : first + _TRAIN_BLOCK]
            both = np.concatenate([best, part @ block.T], axis=1)
            numbers = np.broadcast_to(np.arange(first, first + len(block)), (len(part), len(block)))
            numbers = np.concatenate([which, numbers], axis=1)
            chosen = np.argpartition(-both, count - 1, axis=1)[:, :count]
            best, which = (np.take_along_axis(each, chosen, axis=1) for each in (both, numbers))
        order = np.argsort(-best, axis=1, kind="stable")
        found.append(np.take_along_axis(best, order, axis=1))
        places.append(np.take_along_axis(which, order, axis=1))
    return np.concatenate(found), np.concatenate(places)


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1; one without any length stays 0, and is like no other."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, length, out=np.zeros_like(features), where=length > 0)
