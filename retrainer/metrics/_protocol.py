"""What everything that compares models asks of a metric: a sum over rows, and a function of sums.

A metric is a module: `retrainer/metrics/NAME.py`, or a plug-in's, with these members. The value, its
interval, the paired test against champion and baselines, slices, floors, the smallest detectable difference
and the comparison of versions follow from them, once for all metrics.

Legend: N rows, S statistics of a row, "..." any leading axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class Metric(Protocol):
    """`predictions` is what the task's `predict` made of the rows, `truth` the same rows of the dataset."""

    TARGET: (
        str  # the column of the truth that it reads; a plug-in's may leave it out, and is then not checked
    )
    TITLE: str  # in words, lower case: "accuracy", "word error rate"
    # "share", shown in points of a hundredth (of errors too, which may be above 1), or what one is: "nats".
    UNIT: str
    HIGHER_IS_BETTER: bool
    LOWEST: float  # no value lies below or above; -inf and inf where there is no such bound
    HIGHEST: float

    @staticmethod
    def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
        """float64 [N, S], the same S columns for two models that `Task.comparable` has prepared.

        Where all of a row's statistics are equal for two models, the row does not tell them apart. A metric
        with S = 2, whose first column is 0 or 1 and whose second is 1 in every row, is a share of rows: it
        gets exact tests and Wilson's interval.
        """

    @staticmethod
    def value(sums: np.ndarray) -> np.ndarray:
        """Sums [..., S] over rows → the metric [...]. Where it does not exist (nothing to divide by): 0."""


class PairMetric(Metric, Protocol):
    """A metric of pairs of rows, whose statistics of a row are sums over the row's pairs with all others.

    Rows of one unit (a speaker) depend on each other: intervals and tests draw whole units. WITHIN_UNITS is
    the share of the statistics, from the first on, that pair rows of one unit; the rest pair two units.
    Source of drawing whole identities: Fogliato, Patil and Perona, Confidence Intervals for Error Rates in
    1:1 Matching Tasks, arXiv:2306.01198.
    """

    WITHIN_UNITS: float

    @staticmethod
    def units(truth: pa.Table) -> np.ndarray:
        """int64 [N]: the number of each row's unit."""


class RankingMetric(Metric, Protocol):
    """A metric that is no function of sums, because it ranks what it finds in all rows (average precision).

    It has RESAMPLES_ROWS and `value_of_rows` in place of `value`; everything that compares models then asks
    for its value at the weights of each draw.
    """

    RESAMPLES_ROWS: bool  # True

    @staticmethod
    def value_of_rows(statistics: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Statistics [N, S] and how often each row counts [..., N] → the metric [...]."""
