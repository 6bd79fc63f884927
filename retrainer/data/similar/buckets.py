"""What the searches share: equal rows stand for one another, and rows of one bucket meet.

Legend: N rows, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

Value = TypeVar("Value", str, bytes)


def distinct_values(values: Sequence[Value]) -> tuple[list[Value], np.ndarray]:
    """The distinct values in sorted order, and int64 [N]: which of them each row has."""
    distinct = sorted(set(values))
    number = {value: at for at, value in enumerate(distinct)}
    return distinct, np.array([number[value] for value in values], np.int64)


def with_copies(pairs: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Pairs of distinct values → pairs of rows: of equal rows the first stands for all.

    `which` int64 [N] says which value each row has.
    """
    values, first = np.unique(which, return_index=True)
    at = np.searchsorted(values, pairs)
    rows = np.arange(len(which))
    standing = first[np.searchsorted(values, which)]
    copies = np.stack([standing, rows], axis=1)[standing != rows]
    both = np.sort(np.concatenate([first[at].reshape(-1, 2), copies]), axis=1)
    return both[np.lexsort((both[:, 1], both[:, 0]))].astype(np.int64)


def mixed(values: np.ndarray) -> np.ndarray:
    """uint64 → uint64, every bit of the input stirred into every bit (splitmix64; Steele et al., 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Buckets:
    """Rows in buckets of equal keys, uint64 [N]. A row meets the `neighbours` that follow it in its bucket,
    and its bucket's first row."""

    def __init__(self, keys: np.ndarray, neighbours: int) -> None:
        self._order = np.argsort(keys, kind="stable")  # so that a bucket keeps the rows' order
        self._bucket = keys[self._order]
        self._neighbours = neighbours
        head = np.searchsorted(self._bucket, self._bucket)
        # Of each row, in its place in `keys`: its place in the order, and that of its bucket's first row.
        self._place: np.ndarray = np.empty(len(keys), np.int32)
        self._head: np.ndarray = np.empty(len(keys), np.int32)
        self._place[self._order] = np.arange(len(keys))
        self._head[self._order] = head

    def meet(self, pairs: np.ndarray) -> np.ndarray:
        """bool [P]: whether the two of int64 [P, 2] meet here."""
        (one, other), (head, its) = self._place[pairs].T, self._head[pairs].T
        near = np.abs(one - other) <= self._neighbours
        return (head == its) & (near | (one == head) | (other == head))

    def pairs(self, block: int) -> Iterator[np.ndarray]:
        """Blocks of int64 [P, 2], first < second: all that meet, each once. Pairs of one first row stand
        together, and a block holds about `block` of them.
        """
        order, places = self._order, np.arange(len(self._order))
        head = self._head[order]
        far = places[places - head > self._neighbours]
        if len(far):
            yield np.stack([order[head[far]], order[far]], axis=1)
        ends_of_buckets = np.searchsorted(self._bucket, self._bucket, "right")
        following = np.minimum(ends_of_buckets - places - 1, self._neighbours)
        ends = np.cumsum(following)
        cuts = 1 + np.searchsorted(ends, np.arange(block, following.sum() + block, block))
        for some in np.split(places, np.unique(cuts)):
            first: np.ndarray = np.repeat(some, following[some])
            if len(first):
                step = np.arange(len(first)) - np.repeat(ends[some] - following[some], following[some])
                step += ends[some[0]] - following[some[0]]
                yield np.stack([order[first], order[first + 1 + step]], axis=1)


def joined_blocks(blocks: Iterable[np.ndarray], least: int) -> Iterator[np.ndarray]:
    """The same pairs in fewer blocks, of at least so many pairs but for the last."""
    waiting: list[np.ndarray] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= least:
            yield np.concatenate(waiting)
            waiting.clear()
    if waiting:
        yield np.concatenate(waiting)


class Links:
    """Which of N values are linked by pairs so far, directly or through others.

    Each value keeps its first `given` pairs; of more, only those that link what was not linked.
    """

    def __init__(self, values: int, given: int) -> None:
        self._parent = np.arange(values)
        self._pairs: np.ndarray = np.zeros(values, np.int64)
        self._given = given

    def undecided(self, pairs: np.ndarray) -> np.ndarray:
        """Those of int64 [P, 2] that would be kept if they were alike."""
        few = self._pairs[pairs].max(axis=1) < self._given
        return pairs[few | (self._roots(pairs[:, 0]) != self._roots(pairs[:, 1]))]

    def add(self, pairs: np.ndarray) -> None:
        np.add.at(self._pairs, pairs, 1)
        for pair in pairs:
            first, second = sorted(self._roots(pair))
            self._parent[second] = first

    def _roots(self, values: np.ndarray) -> np.ndarray:
        """Of each value the smallest that it is linked to; paths are shortened in place."""
        roots = self._parent[values]
        while (self._parent[roots] != roots).any():
            roots = self._parent[roots]
        self._parent[values] = roots
        return roots
