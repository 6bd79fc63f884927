"""Confidence intervals: Wilson's for a share of rows, the bootstrap for any other function of sums over rows.

Legend: N rows, B blocks of rows that are drawn together (`Measured.blocks`), D draws, S statistics of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np

from retrainer.gate.measured import Measured
from retrainer.settings import Evaluation

_MOST_WEIGHTS = 10_000_000

Figure = dict[str, Any]


def figures(measured: Mapping[str, Measured], settings: Evaluation) -> dict[str, Figure]:
    """Each metric of one model on the same rows, with its interval, as it stands in metrics.json."""
    summed = {n: one for n, one in measured.items() if not (one.is_share or one.ranks_rows)}
    alike: dict[bytes | None, dict[str, Measured]] = {}
    for name, one in summed.items():
        alike.setdefault(None if one.units is None else one.units.tobytes(), {})[name] = one
    drawn = {name: found for part in alike.values() for name, found in _bootstrap(part, settings).items()}
    drawn |= {name: _of_drawn_rows(one, settings) for name, one in measured.items() if one.ranks_rows}
    return {
        name: drawn[name] if name in drawn else wilson(one.hits, one.rows, settings.confidence)
        for name, one in measured.items()
    }


def figure(measured: Measured, settings: Evaluation) -> Figure:
    return figures({"": measured}, settings)[""]


def wilson(hits: int, rows: int, confidence: float) -> Figure:
    """A share of rows with Wilson's score interval, which stays inside 0..1 and holds for few rows.

    Source: Wilson, Journal of the American Statistical Association 22 (1927), 209–212.
    """
    share, z = hits / rows, NormalDist().inv_cdf((1 + confidence) / 2)
    scale = 1 + z**2 / rows
    middle = (share + z**2 / (2 * rows)) / scale
    half = z / scale * (share * (1 - share) / rows + z**2 / (4 * rows**2)) ** 0.5
    # At 0 or `rows` hits one end equals the share; rounding must not push it past.
    return _figure(share, min(share, middle - half), max(share, middle + half), rows)


def _figure(value: float, low: float, high: float, rows: int) -> Figure:
    """Rounded so far that only noise is lost."""
    return {"value": round(value, 6), "low": round(low, 6), "high": round(high, 6), "n": rows}


def block_sums(statistics: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Sums rows [N, S] into their blocks: [B, S]."""
    count = int(blocks.max()) + 1
    if count == len(statistics):
        return statistics
    order = np.argsort(blocks, kind="stable")
    starts = np.searchsorted(blocks[order], np.arange(count))
    return np.asarray(np.add.reduceat(statistics[order], starts, axis=0))


def _bootstrap(measured: Mapping[str, Measured], settings: Evaluation) -> dict[str, Figure]:
    """Values with percentile intervals; all metrics, whose rows have the same units, are drawn together.

    The draws are moved so that their mean lies on the value: resampling adds noise of its own, which would
    push the interval of a calibration error off its value.
    Source: Efron, Annals of Statistics 7 (1979), 1–26.
    """
    if not measured:
        return {}
    statistics = [one.statistics for one in measured.values()]
    blocks = next(iter(measured.values())).blocks(settings.seed)
    sums = np.concatenate([block_sums(one, blocks) for one in statistics], axis=1)
    totals = _draw_totals(sums, settings.resamples, settings.seed)
    ends = np.cumsum([one.shape[1] for one in statistics])
    parts = np.split(totals, ends[:-1], axis=1)
    found = {}
    for (name, one), part in zip(measured.items(), parts, strict=True):
        found[name] = _percentiles(one, one.of_drawn_sums(part.astype(np.float64)), settings)
    return found


def _of_drawn_rows(one: Measured, settings: Evaluation) -> Figure:
    """The same for a metric that ranks rows: its value anew for each draw, from how often a row was drawn."""
    blocks = one.blocks(settings.seed)
    counts = _draw_counts(int(blocks.max()) + 1, settings.resamples, settings.seed)
    # Some draws at a time: with many rows, all their weights at once would fill the memory.
    parts = np.array_split(counts, max(1, len(counts) * one.rows // _MOST_WEIGHTS))
    drawn = np.concatenate([one.of_row_weights(part[:, blocks]) for part in parts])
    return _percentiles(one, drawn, settings)


def _percentiles(one: Measured, drawn: np.ndarray, settings: Evaluation) -> Figure:
    value, tail = one.value, (1 - settings.confidence) / 2
    if one.units is not None and one.unit_count == 1:  # of which nobody knows how much another one differs
        return _figure(value, one.metric.LOWEST, one.metric.HIGHEST, one.rows)
    low, high = np.quantile(drawn - drawn.mean() + value, [tail, 1 - tail])
    # Rounding in the draws' 32-bit sums must not leave the value outside.
    low, high = max(one.metric.LOWEST, min(value, low)), min(one.metric.HIGHEST, max(value, high))
    return _figure(value, float(low), float(high), one.rows)


def _draw_totals(sums: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Sums per block [B, S] → totals [D, S] over blocks drawn with replacement, as many as there are."""
    counts = _draw_counts(len(sums), draws, seed)
    return counts.astype(np.float32) @ sums.astype(np.float32)


def _draw_counts(blocks: int, draws: int, seed: int) -> np.ndarray:
    """int64 [D, B]: how often each block is drawn."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, blocks, size=(draws, blocks), dtype=np.int64)
    drawn += np.arange(draws, dtype=np.int64)[:, None] * blocks
    return np.bincount(drawn.ravel(), minlength=draws * blocks).reshape(draws, blocks)
