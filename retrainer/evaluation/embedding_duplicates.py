"""Test rows that a network sees as it sees a training row: leaks that equal words or pixels did not show.

Legend: N test rows, M training rows, D feature width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Features compared at once: 4 MB of similarities.
_TEST_BLOCK, _TRAIN_BLOCK = 512, 2048


@dataclass(frozen=True)
class Likeness:
    """By falling similarity: test rows int64 [n], each with its likest training row int64 [n], and the
    cosine of the two, float32 [n]."""

    test: np.ndarray
    train: np.ndarray
    cosine: np.ndarray


def likest(test: np.ndarray, train: np.ndarray, least: float) -> Likeness:
    """The test rows [N, D] of which some training row [M, D] has a cosine similarity of `least` or more.

    Features are taken from the training rows' mean: those of one network share a large part. Block by
    block: besides the features themselves, memory does not grow with N times M. Of equal ones the first.
    """
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    test, train = _unit(test - mean), _unit(train - mean)
    best: np.ndarray = np.full(len(test), -np.inf, np.float32)
    which: np.ndarray = np.zeros(len(test), np.int64)
    for start in range(0, len(test), _TEST_BLOCK):
        part = slice(start, start + _TEST_BLOCK)
        for first in range(0, len(train), _TRAIN_BLOCK):
            cosines = test[part] @ train[first : first + _TRAIN_BLOCK].T
            place = cosines.argmax(axis=1)
            found = cosines[np.arange(len(place)), place]
            better = found > best[part]
            best[part] = np.where(better, found, best[part])
            which[part] = np.where(better, first + place, which[part])
    near = np.flatnonzero(best >= least)
    near = near[np.argsort(-best[near], kind="stable")]
    return Likeness(near, which[near], best[near])


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1; one without any length stays 0, and is like no other."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, length, out=np.zeros_like(features), where=length > 0)
