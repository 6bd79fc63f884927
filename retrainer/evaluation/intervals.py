"""Confidence intervals: Wilson's for a share, the bootstrap for all that is a function of sums over rows.

Legend: N rows, D draws, F sums.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np

from retrainer.settings import Evaluation

# More rows than this are drawn in blocks of equal size: sums over rows vary alike, at a bounded cost.
MOST_BLOCKS = 4096

Figure = dict[str, Any]


def figure(value: float, low: float, high: float, rows: int) -> Figure:
    """One metric as it stands in metrics.json; rounded so far that only noise is lost."""
    return {"value": _round(value), "low": _round(low), "high": _round(high), "n": rows}


def _round(value: float) -> float:
    return round(float(value), 6)


def wilson(hits: int, rows: int, confidence: float) -> Figure:
    """A share of rows with Wilson's score interval, which stays inside 0..1 and holds for few rows.

    Source: Wilson, Journal of the American Statistical Association 22 (1927), 209–212.
    """
    share, z = hits / rows, NormalDist().inv_cdf((1 + confidence) / 2)
    scale = 1 + z**2 / rows
    middle = (share + z**2 / (2 * rows)) / scale
    half = z / scale * (share * (1 - share) / rows + z**2 / (4 * rows**2)) ** 0.5
    # At 0 or `rows` hits one end equals the share; rounding must not push it past.
    return figure(share, min(share, middle - half), max(share, middle + half), rows)


def blocks_of(rows: int, seed: int) -> np.ndarray:
    """int64 [N]: the block that each row is drawn with; each row its own up to MOST_BLOCKS rows."""
    if rows <= MOST_BLOCKS:
        return np.arange(rows)
    return np.random.default_rng((seed, rows)).permutation(rows) % MOST_BLOCKS


def draw_totals(sums: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Sums per block [B, F] → totals [D, F] over blocks drawn with replacement, as many as there are."""
    blocks = len(sums)
    random = np.random.default_rng(seed)
    drawn = random.integers(0, blocks, size=(draws, blocks), dtype=np.int64)
    drawn += np.arange(draws, dtype=np.int64)[:, None] * blocks
    counts = np.bincount(drawn.ravel(), minlength=draws * blocks).reshape(draws, blocks)
    return counts.astype(np.float32) @ sums.astype(np.float32)


def bootstrap(
    sums: np.ndarray,
    statistics: Callable[[np.ndarray], dict[str, np.ndarray]],
    rows: int,
    settings: Evaluation,
    unbounded: tuple[str, ...] = (),
) -> dict[str, Figure]:
    """Each statistic of the totals with its percentile interval; all but `unbounded` ones lie in 0..1.

    `statistics` maps totals [D, F] to values [D]. The draws are moved so that their mean lies on the value:
    resampling adds noise of its own, which would push the interval of a calibration error off its value.
    Source: Efron, Annals of Statistics 7 (1979), 1–26.
    """
    exact = statistics(sums.sum(axis=0, keepdims=True, dtype=np.float64))
    drawn = statistics(draw_totals(sums, settings.resamples, settings.seed))
    tail = (1 - settings.confidence) / 2
    figures = {}
    for name, values in exact.items():
        value = float(values[0])
        low, high = np.quantile(drawn[name] - drawn[name].mean() + value, [tail, 1 - tail])
        ceiling = np.inf if name in unbounded else 1.0
        # Rounding in the draws' 32-bit sums must not leave the value outside.
        figures[name] = figure(value, max(0.0, min(value, low)), min(ceiling, max(value, high)), rows)
    return figures
