"""Nested random parts of the training rows: rows that depend on each other are taken together.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def nested_parts(units: np.ndarray, sizes: Sequence[int], seed: int) -> list[np.ndarray]:
    """For each of the rising sizes the rows of that part, int64 rising; each part holds all smaller ones.

    `units` [N] name what rows belong together (a component, a group). A part ends with a whole unit, at
    `sizes` rows or the fewest rows above.
    """
    names, unit = np.unique(units, return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(names))[unit]
    held = np.bincount(place, minlength=len(names)).cumsum()
    last = [int(np.searchsorted(held, min(size, len(units)))) for size in sizes]
    return [np.flatnonzero(place <= end) for end in last]
