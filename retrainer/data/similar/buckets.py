"""What the searches share: equal rows stand for one another, and rows of one bucket meet.

Legend: N rows, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def pairs_of_buckets(keys: np.ndarray, neighbours: int) -> Iterator[np.ndarray]:
    """Blocks of int64 [P, 2], first < second: rows with equal keys, uint64 [N].

    A row meets the `neighbours` that follow it in its bucket, and its bucket's first row.
    """
    order = np.argsort(keys, kind="stable")  # so that a bucket keeps the rows' order
    bucket = keys[order]
    places = np.arange(len(bucket))
    head = np.asarray(np.searchsorted(bucket, bucket))
    far = places[places - head > neighbours]
    if len(far):
        yield np.stack([order[head[far]], order[far]], axis=1)
    alive = places
    for step in range(1, neighbours + 1):
        alive = alive[: np.searchsorted(alive, len(bucket) - step)]
        alive = alive[bucket[alive] == bucket[alive + step]]
        if not len(alive):
            return
        yield np.stack([order[alive], order[alive + step]], axis=1)


def unique_pairs(blocks: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """int64 [P, 2], sorted, each once."""
    if not blocks:
        return np.empty((0, 2), np.int64)
    joined = np.unique(np.concatenate([block[:, 0] * rows + block[:, 1] for block in blocks]))
    return np.stack(np.divmod(joined, rows), axis=1)


def nearest(pairs: np.ndarray, distance: np.ndarray, most: int) -> np.ndarray:
    """int64 [P, 2]: of each first row the `most` pairs of the smallest distance."""
    order = np.lexsort((pairs[:, 1], distance, pairs[:, 0]))
    pairs = pairs[order]
    rank = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
    return pairs[rank < most]
