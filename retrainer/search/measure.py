"""How good a search by features is: recall at k, of held-out rows among those that the model learned from.

Recall at k is the share of the queries that have a row of their own class among the k nearest (as in Jégou,
Douze, Schmid 2011, and Oh Song et al. 2016, arXiv:1511.06452). With few classes chance alone finds much, so
what a random choice of k rows would give stands beside it.

Legend: N queries, M rows that are searched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from retrainer.gate.intervals import wilson
from retrainer.tasks._neighbours import nearest_rows

AT = (1, 5, 10)
_CONFIDENCE = 0.95


def recall_at(
    queries: np.ndarray, own: Sequence[Sequence[str]], searched: np.ndarray, theirs: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """[{"k", "value", "low", "high", "n", "chance"}] of features [N, D] and [M, D] and each row's classes.

    A query of several classes is served by a row that shares one. Queries without a class do not count.
    """
    asked = [row for row, names in enumerate(own) if names]
    if not asked or not len(searched):
        return []
    _, which = nearest_rows(queries[asked], searched, max(AT))
    found = [
        [bool({*own[row]} & {*theirs[place]}) for place in places]
        for row, places in zip(asked, which.tolist(), strict=True)
    ]
    shares = _shares([own[row] for row in asked], theirs)
    figures = []
    for k in AT:
        hits = sum(any(one[:k]) for one in found)
        chance = float(np.mean(1 - (1 - shares) ** k))
        figures.append({"k": k, **wilson(hits, len(asked), _CONFIDENCE), "chance": round(chance, 6)})
    return figures


def _shares(own: Sequence[Sequence[str]], theirs: Sequence[Sequence[str]]) -> np.ndarray:
    """float64 [N]: the share of the searched rows that have a class of each query."""
    sets = Counter(frozenset(names) for names in theirs)
    known = {names: sum(n for other, n in sets.items() if names & other) for names in map(frozenset, own)}
    return np.array([known[frozenset(names)] for names in own]) / max(1, len(theirs))


def said(figures: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each k."""
    return [
        f"recall@{one['k']:<2} {one['value']:.3f}, interval {one['low']:.3f} to {one['high']:.3f}, on"
        f" {one['n']:,} held-out rows; by chance {one['chance']:.3f}"
        for one in figures
    ]
