"""One metric of two models on the same rows, and how far their difference may have come out by luck.

Legend: N rows, B blocks of rows that are drawn together (`Measured.blocks`), D draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from retrainer.gate.intervals import block_sums
from retrainer.gate.measured import Measured

DRAWS = 4000
_SEED = 0
_AT_ONCE = 250

# How often each block was drawn [D, B] → the candidate's gain [D].
Gains = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Pair:
    """The same statistics of each row, of both models. Bootstrap draws are made once, for all comparisons."""

    candidate: Measured
    other: Measured
    draws: int = field(default=DRAWS, kw_only=True)

    def __post_init__(self) -> None:
        shapes = self.candidate.statistics.shape, self.other.statistics.shape
        if shapes[0] != shapes[1] or not shapes[0][0]:
            raise ValueError(f"cannot pair statistics of shapes {shapes[0]} and {shapes[1]}")

    @property
    def rows(self) -> int:
        return self.candidate.rows

    @property
    def is_share(self) -> bool:
        return self.candidate.is_share and self.other.is_share

    @property
    def gain(self) -> float:
        """By how much the candidate's value is better, whichever direction is better."""
        mine, its = self.candidate.value, self.other.value
        return mine - its if self.candidate.metric.HIGHER_IS_BETTER else its - mine

    @property
    def discordant(self) -> np.ndarray:
        """bool [N]: rows that do not count alike for the two."""
        return np.asarray((self.candidate.statistics != self.other.statistics).any(axis=1))

    @property
    def discordant_count(self) -> int:
        """How many rows that is, or how many units, where rows depend on each other."""
        units = self.candidate.units
        return int(self.discordant.sum()) if units is None else len(np.unique(units[self.discordant]))

    @cached_property
    def deviations(self) -> np.ndarray:
        """float64 [D]: how far the gain lies from `gain` when rows are drawn with replacement, for both the
        same. Equal pairs have equal ones."""
        drawn = _drawn(gains_of(self), int(self.candidate.blocks(_SEED).max()) + 1, self.draws)
        return drawn - self.gain

    @cached_property
    def swapped_gains(self) -> np.ndarray:
        """float64 [D], for a metric that ranks rows: the gain when in every row a fair coin says whether the
        two models' answers change places. Each draw comes with its opposite, whose gain is the negative."""
        mine, its = self.candidate, self.other
        both = replace(mine, statistics=np.concatenate([mine.statistics, its.statistics]))
        blocks = mine.blocks(_SEED)
        sign = 1.0 if mine.metric.HIGHER_IS_BETTER else -1.0
        random, found = np.random.default_rng((_SEED, 1)), []
        for start in range(0, self.draws // 2, _AT_ONCE):
            coins = random.random((min(_AT_ONCE, self.draws // 2 - start), int(blocks.max()) + 1)) < 0.5
            stays = coins[:, blocks].astype(np.float64)
            first, second = np.hstack([stays, 1 - stays]), np.hstack([1 - stays, stays])
            found.append(sign * (both.of_row_weights(first) - both.of_row_weights(second)))
        one_half = np.concatenate(found)
        return np.concatenate([one_half, -one_half])

    def only(self, chosen: np.ndarray) -> Pair:
        return replace(self, candidate=self.candidate.only(chosen), other=self.other.only(chosen))


def gains_of(pair: Pair) -> Gains:
    """The candidate's gain as a function of how often each block of rows counts."""
    sign = 1.0 if pair.candidate.metric.HIGHER_IS_BETTER else -1.0
    if pair.candidate.ranks_rows:
        blocks, mine, its = pair.candidate.blocks(_SEED), pair.candidate, pair.other
        return lambda weights: (
            sign * (mine.of_row_weights(weights[..., blocks]) - its.of_row_weights(weights[..., blocks]))
        )
    mine, its = pair.candidate, pair.other
    first, second = (block_sums(one.statistics, one.blocks(_SEED)) for one in (mine, its))
    return lambda weights: sign * (mine.of_drawn_sums(weights @ first) - its.of_drawn_sums(weights @ second))


def _drawn(gains: Gains, blocks: int, draws: int) -> np.ndarray:
    random = np.random.default_rng(_SEED)
    found = []
    for start in range(0, draws, _AT_ONCE):
        weights = random.multinomial(blocks, np.full(blocks, 1 / blocks), size=min(_AT_ONCE, draws - start))
        found.append(gains(weights.astype(np.float64)))
    return np.concatenate(found)
