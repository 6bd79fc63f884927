"""A metric of one model on rows.

Legend: N rows, S statistics of a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.errors import SettingError

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.metrics._protocol import Metric


# More units than this are drawn in blocks of equal size: sums over them vary alike, at a bounded cost.
MOST_BLOCKS = 4096


@dataclass(frozen=True)
class Measured:
    """`statistics`: float64 [N, S], whose sums make the metric's value; or which it ranks.

    `units`: int64 [N], rows of one number depend on each other and are drawn together; None: each row alone.
    """

    metric: Metric
    statistics: np.ndarray
    units: np.ndarray | None = None

    @property
    def rows(self) -> int:
        return len(self.statistics)

    @cached_property
    def value(self) -> float:
        if self.ranks_rows:
            return float(self.of_row_weights(np.ones(self.rows)))
        return float(self.metric.value(self.statistics.sum(axis=0)))

    @property
    def ranks_rows(self) -> bool:
        """Whether the metric is no function of sums, and is computed anew for each weighting of the rows."""
        return bool(getattr(self.metric, "RESAMPLES_ROWS", False))

    def of_row_weights(self, weights: np.ndarray) -> np.ndarray:
        """The value [...] where each row counts as often as `weights` [..., N] say."""
        return np.asarray(self.metric.value_of_rows(self.statistics, weights))  # type: ignore[attr-defined]

    @cached_property
    def is_share(self) -> bool:
        """Whether every row is a hit or none, so that exact tests and Wilson's interval hold."""
        if self.ranks_rows or self.units is not None or self.statistics.shape[1] != 2:
            return False
        hit, one = self.statistics.T
        return bool((one == 1).all() and np.isin(hit, (0, 1)).all())

    @property
    def hits(self) -> int:
        return int(self.statistics[:, 0].sum())

    @property
    def right(self) -> np.ndarray:
        """bool [N] of a share: the row counts in the model's favour."""
        assert self.is_share
        return np.asarray(self.statistics[:, 0] == (1 if self.metric.HIGHER_IS_BETTER else 0))

    def only(self, chosen: np.ndarray) -> Measured:
        """The same on the chosen rows: bool [N] or their numbers."""
        units = None if self.units is None else self.units[chosen]
        return replace(self, statistics=self.statistics[chosen], units=units)

    @property
    def unit_count(self) -> int:
        """How many units the rows have; each row is one where none are known."""
        return self.rows if self.units is None else len(np.unique(self.units))

    def blocks(self, seed: int) -> np.ndarray:
        """int64 [N]: the block that each row is drawn with; each unit its own up to MOST_BLOCKS of them."""
        units = np.arange(self.rows)
        if self.units is not None:
            units = np.unique(self.units, return_inverse=True)[1]
        count = int(units.max(initial=-1)) + 1
        if count <= MOST_BLOCKS:
            return units
        return (np.random.default_rng((seed, count)).permutation(count) % MOST_BLOCKS)[units]

    def of_drawn_sums(self, drawn: np.ndarray) -> np.ndarray:
        """Sums over drawn rows [..., S] → the value [...].

        A pair of two units comes in as often as both are drawn, and the drawn rows count it for one of the
        two alone. So of statistics that pair units (see `PairMetric`) the deviation from their sum counts
        twice: the change to first order, by the Hájek projection of a U-statistic.
        """
        within = getattr(self.metric, "WITHIN_UNITS", None)
        if within is not None:
            total = self.statistics.sum(axis=0)
            across = np.arange(len(total)) >= len(total) * within
            drawn = drawn + np.where(across, drawn - total, 0.0)
        return np.asarray(self.metric.value(drawn))


# A function `statistics` → what it gave for two tables.
Known = dict[Any, np.ndarray]


def measure(
    metric: Metric, name: str, predictions: pa.Table, truth: pa.Table, known: Known | None = None
) -> Measured:
    """Raises UserError when the predictions or rows lack what the metric reads, or it breaks its contract.

    `known`: what functions gave for these tables, as several metrics may be made of one's statistics.
    """
    known = {} if known is None else known
    if metric.statistics in known:
        return Measured(metric, known[metric.statistics], _units(metric, truth))
    try:
        statistics = np.asarray(metric.statistics(predictions, truth), dtype=np.float64)
    except KeyError as error:
        raise SettingError(f"the metric {name} does not suit this task: there is no {error}") from None
    if statistics.ndim != 2 or len(statistics) != len(truth):
        raise SettingError(f"the metric {name} gives statistics {statistics.shape} for {len(truth)} rows")
    if not np.isfinite(statistics).all():
        raise SettingError(f"the metric {name} gives statistics that are not finite")
    known[metric.statistics] = statistics
    return Measured(metric, statistics, _units(metric, truth))


def _units(metric: Metric, truth: pa.Table) -> np.ndarray | None:
    return np.asarray(metric.units(truth)) if hasattr(metric, "units") else None
