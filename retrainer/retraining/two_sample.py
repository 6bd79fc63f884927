"""Do two samples come from one distribution? Permutation tests, which hold their level by construction.

If they do, every division of the pooled rows into two samples of these sizes is as likely as the one that was
seen. So the share of divisions at least as unlike, that one included, is a valid p-value whatever the
distribution is (Phipson and Smyth, 2010). What it takes for granted is that rows are independent.

Of several statistics the least rank is taken, and ranked in its turn among the same divisions, which counts
the multiple looks exactly (Westfall and Young, 1993). The random draws have a fixed seed.

Legend: N rows of the reference, M new rows, T = N + M, B divisions, the first being the one that was seen,
K labels, S measures, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DIVISIONS = 1000
_SEED = 0
_TIE = 1e-9


@dataclass(frozen=True)
class Tested:
    """A family of statistics: its p-value, each statistic's own, and where the difference is largest."""

    p_value: float
    parts: Mapping[str, float]
    largest: Sequence[Mapping[str, float | str]]


def compare_labels(reference: Mapping[str, int], new: Mapping[str, int], most: int = 5) -> Tested:
    """Are labels as frequent as before? Counts by label in, each row counted once.

    Two statistics: the least two-sided p-value of any label alone (hypergeometric, as in Fisher's exact
    test), for one that vanished or is new, and G of all (likelihood ratio), for many small changes.
    """
    labels = sorted({*reference, *new})
    was, now = (np.array([counts.get(label, 0) for label in labels]) for counts in (reference, new))
    total = was + now
    draw = np.random.default_rng(_SEED)
    drawn = draw.multivariate_hypergeometric(total, now.sum(), DIVISIONS - 1, method="marginals")
    divided = np.concatenate([now[None], drawn])
    alone = _each_label(divided, total, int(now.sum()))
    least = {"one label": -np.log(alone.min(axis=1)), "all labels": _g(divided, total)}
    largest = [
        {"label": labels[at], "expected": float(total[at] * now.sum() / total.sum()), "found": int(now[at])}
        for at in np.argsort(alone[0], kind="stable")[:most]
    ]
    return _together(least, largest)


def _each_label(counts: np.ndarray, total: np.ndarray, rows: int) -> np.ndarray:
    """float [B, K]: two-sided p-values of counts int [B, K] among `rows` drawn from labels int [K]."""
    size = int(total.sum())
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, size + 1)))])

    def choose(of: int, some: np.ndarray) -> np.ndarray:
        return logs[of] - logs[some] - logs[of - some]

    values = np.empty(counts.shape)
    for at, held in enumerate(total.tolist()):
        first = max(0, rows - (size - held))
        found = np.arange(first, min(held, rows) + 1)
        chances = np.exp(
            choose(held, found) + choose(size - held, rows - found) - choose(size, np.array(rows))
        )
        tails = np.minimum(np.cumsum(chances), np.cumsum(chances[::-1])[::-1])
        values[:, at] = np.minimum(1.0, 2 * tails)[counts[:, at] - first]
    return np.maximum(values, np.finfo(float).tiny)


def _g(counts: np.ndarray, total: np.ndarray) -> np.ndarray:
    """float [B]: the likelihood-ratio statistic of two samples with counts int [B, K], of labels int [K]."""
    rows = counts[0].sum()
    others = total - counts

    def half(observed: np.ndarray, share: float) -> np.ndarray:
        ratio = observed / (total * share)
        terms: np.ndarray = observed * np.log(np.where(observed > 0, ratio, 1.0))
        return terms.sum(axis=1)

    share = rows / total.sum()
    return 2 * (half(counts, share) + half(others, 1 - share))


def compare_inputs(
    names: Sequence[str],
    reference: tuple[np.ndarray, np.ndarray],
    new: tuple[np.ndarray, np.ndarray],
    most: int = 3,
) -> Tested:
    """Are inputs distributed as before? (measures [N, S], embedding [N, D]) in, and the same of the new rows.

    Two statistics: the largest Kolmogorov-Smirnov distance of any measure, and the energy distance (Székely
    and Rizzo, 2013) of the embedding, every dimension in units of its standard deviation over all rows.
    """
    measures, embedding = (np.concatenate(pair) for pair in zip(reference, new, strict=True))
    chosen = _divisions(len(reference[0]), len(new[0]))
    statistics, largest = {}, []
    if len(names):
        distances = _kolmogorov_smirnov(measures, chosen)
        statistics["one measure"] = distances.max(axis=1)
        for at in np.argsort(-distances[0], kind="stable")[:most]:
            entry = {"measure": names[at], "distance": float(distances[0, at])}
            medians = {"was": np.median(reference[0][:, at]), "now": np.median(new[0][:, at])}
            largest.append(entry | {name: float(value) for name, value in medians.items()})
    if embedding.shape[1]:
        statistics["embedding"] = _energy(_standard(embedding), chosen)
    return _together(statistics, largest)


def _divisions(rows: int, new: int) -> np.ndarray:
    """float32 [T, B]: 1 for the rows that a division calls new; the first calls the last rows so."""
    draw = np.random.default_rng(_SEED)
    chosen: np.ndarray = np.zeros((rows + new, DIVISIONS), np.float32)
    chosen[rows:, 0] = 1
    for at in range(1, DIVISIONS):
        chosen[draw.permutation(rows + new)[:new], at] = 1
    return chosen


def _kolmogorov_smirnov(measures: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """float [B, S]: the largest difference of the two samples' distribution functions."""
    new = chosen[:, 0].sum()
    rows = len(chosen) - new
    found = np.empty((chosen.shape[1], measures.shape[1]))
    for at, values in enumerate(measures.T):
        order = np.argsort(values, kind="stable")
        last: np.ndarray = np.append(np.flatnonzero(np.diff(values[order]) > 0), len(values) - 1)
        below = np.cumsum(chosen[order], axis=0, dtype=np.float32)[last]
        others = (last + 1)[:, None].astype(np.float32) - below
        found[:, at] = np.abs(below / new - others / rows).max(axis=0)
    return found


def _standard(values: np.ndarray) -> np.ndarray:
    """float32 [T, D] with mean 0 and standard deviation 1; a dimension without any is 0."""
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > _TIE, spread, 1)
    return scaled.astype(np.float32)


def _energy(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """float64 [B]: 2 E|X−Y| − E|X−X'| − E|Y−Y'|, over all pairs."""
    squares = np.einsum("td,td->t", values, values)
    distances = squares[:, None] + squares - 2 * (values @ values.T)
    np.sqrt(np.maximum(distances, 0, out=distances), out=distances)
    np.fill_diagonal(distances, 0)
    new = float(chosen[:, 0].sum())
    rows = len(chosen) - new
    within = np.einsum("tb,tb->b", chosen, distances @ chosen, dtype=np.float64)
    from_new = distances.sum(axis=1, dtype=np.float64) @ chosen.astype(np.float64)
    others = distances.sum(dtype=np.float64) - 2 * from_new + within
    found: np.ndarray = 2 * (from_new - within) / (new * rows) - within / new**2 - others / rows**2
    return found


def _together(statistics: Mapping[str, np.ndarray], largest: Sequence[Mapping[str, float | str]]) -> Tested:
    """The family's p-value: the rank of the least rank. Larger statistics speak for a difference."""
    ranks = {name: _ranks(values) for name, values in statistics.items()}
    least = np.minimum.reduce(list(ranks.values()))
    return Tested(float(_ranks(-least)[0]), {name: float(one[0]) for name, one in ranks.items()}, largest)


def _ranks(values: np.ndarray) -> np.ndarray:
    """float [B]: for each division the share of divisions at least as large, itself included."""
    tolerance = _TIE * max(1.0, float(np.abs(values).max()))
    ordered = np.sort(values)
    smaller = np.asarray(np.searchsorted(ordered, values - tolerance))
    return (len(values) - smaller) / len(values)


def adjusted(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's p-values (1979): rejecting those of at most α errs at most α of the time in any of the tests."""
    found, least = {}, 0.0
    for rank, (name, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, (len(p_values) - rank) * value))
        found[name] = least
    return found
