"""The lowest frequencies of the cosine transform, of which perceptual hashes are made (Zauner, 2010).

Legend: N images, S the side of their small pixels, C frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

# What red, green and blue give to grey, in thousandths.
GREY = np.array([299.0, 587.0, 114.0])


def lowest(side: int, count: int) -> list[tuple[int, int]]:
    """(down, across) of so many frequencies of `side` pixels, from low to high, without the mean."""
    ordered = sorted((u + v, u, v) for u in range(side) for v in range(side))
    return [(u, v) for _, u, v in ordered[1 : count + 1]]


@dataclass(frozen=True)
class Frequencies:
    """The `count` lowest of `side` pixels."""

    side: int
    count: int

    @cached_property
    def _places(self) -> np.ndarray:
        return np.array(lowest(self.side, self.count)).T

    @cached_property
    def _waves(self) -> np.ndarray:
        """The transform's rows, as whole numbers: sums of them are exact, in any order of summing."""
        orders: np.ndarray = np.arange(1 + int(self._places.max()))
        odd: np.ndarray = 2 * np.arange(self.side) + 1
        return np.asarray(np.round(1024 * np.cos(np.pi * np.outer(orders, odd) / (2 * self.side))))

    def of(self, planes: np.ndarray) -> np.ndarray:
        """float64 [N, S, S] of whole numbers → [N, C]."""
        rows, columns = self._places
        return np.asarray((self._waves @ planes @ self._waves.T)[:, rows, columns])
