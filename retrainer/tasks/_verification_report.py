"""What a report says of verification beyond the common part: `details` of metrics.json.

    threshold   the stored one, 2 where none could be chosen
    pairs       {"genuine", "impostors"}: how many; {"identities", "rows", "sessions"}
    scores      {"edges": [H + 1], "genuine": [H], "impostors": [H]}: pairs by their score
    curve       [[false accept rate, false reject rate]] from the highest threshold to the lowest
    identities  [{"identity", "rows", "equal_error_rate"}], the worst first
    worst       [{"kind", "row", "other", "score"}]: the lowest of genuine and the highest of impostor pairs,
                none of whose rows stands in two of one kind
    roc         see `Task.details`

Legend: N rows, H bars.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.metrics import equal_error_rate
from retrainer.metrics._pair_scores import (
    BINS,
    NEVER,
    identities,
    pairs,
    rates,
    sessions,
    statistics,
    threshold_of_bin,
)

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

_BARS = 50
_MOST_POINTS = 100
_MOST_IDENTITIES = 50
_WORST = 5
_FEW_IDENTITIES = 20
# Kept of each block of pairs, from which the worst are chosen.
_CANDIDATES = 200


def details(judged: Judged) -> dict[str, Any]:
    counts = statistics(judged.predictions, judged.test)
    total = counts.sum(axis=0)
    threshold = float(judged.predictor.network.head.threshold)
    accepted, rejected = rates(total)
    who = identities(judged.test)
    found = len(np.unique(who))
    return {
        "threshold": round(threshold, 6),
        "pairs": {
            "genuine": int(total[:BINS].sum()) // 2,
            "impostors": int(total[BINS:].sum()) // 2,
            "identities": found,
            "sessions": sessions(judged.test) is not None,
        },
        "scores": _histograms(total),
        "curve": _points(accepted, rejected),
        "identities": _by_identity(judged, counts, who),
        "worst": _worst(judged),
        "roc": _roc(accepted, rejected),
        "numbers": {"threshold": round(threshold, 6)},
        "notes": _notes(threshold),
        "limits": _limits(found),
    }


def _notes(threshold: float) -> list[str]:
    if threshold == NEVER:
        return [
            "No threshold is stored, as there were no two identities to validate on: nobody is recognised"
            " (`split.validation`)."
        ]
    return [
        f"Two rows count as one identity from a score of {threshold:.3f} on, which the validation rows chose."
    ]


def _limits(found: int) -> list[str]:
    said = [
        "Whom it was not tested on it may tell apart less well: groups of people, languages, microphones,"
        " cameras that the test rows do not have.",
        "It compares recordings or pictures, and does not know whether a living person stands behind them.",
    ]
    if found < _FEW_IDENTITIES:
        said.append(f"It was judged on {found} identities: too few to know its error rates well.")
    return said


def _histograms(total: np.ndarray) -> dict[str, Any]:
    """Between the lowest and the highest score that there is."""
    there = (total[:BINS] + total[BINS:]).nonzero()[0]
    first, last = int(there[0]), int(there[-1]) + 1
    edges = np.unique(np.linspace(first, last, min(_BARS, last - first) + 1).round().astype(int))
    genuine, impostors = (np.add.reduceat(one[:last], edges[:-1]) / 2 for one in (total[:BINS], total[BINS:]))
    return {
        "edges": [2 * int(edge) / BINS - 1 for edge in edges],
        "genuine": [int(count) for count in genuine],
        "impostors": [int(count) for count in impostors],
    }


def _thinned(accepted: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Thresholds at which a rate changes, at most so many, evenly."""
    changes = np.append(True, (np.diff(accepted) != 0) | (np.diff(rejected) != 0)).nonzero()[0]
    return changes[np.unique(np.linspace(0, len(changes) - 1, _MOST_POINTS).round().astype(int))]


def _points(accepted: np.ndarray, rejected: np.ndarray) -> list[list[float]]:
    places = _thinned(accepted, rejected)[::-1]
    return [[round(float(accepted[at]), 6), round(float(rejected[at]), 6)] for at in places]


def _roc(accepted: np.ndarray, rejected: np.ndarray) -> list[list[float]]:
    places = _thinned(accepted, rejected)[::-1]
    return [
        [
            round(threshold_of_bin(int(at)), 6),
            round(float(accepted[at]), 6),
            round(float(1 - rejected[at]), 6),
        ]
        for at in places
    ]


def _by_identity(judged: Judged, counts: np.ndarray, who: np.ndarray) -> list[dict[str, Any]]:
    """Of the pairs that an identity's rows are in; only of those with genuine ones."""
    names = judged.test["group"].to_pylist()
    found = []
    for number in np.unique(who):
        mine = who == number
        sums = counts[mine].sum(axis=0)
        if sums[:BINS].any():
            rate = round(float(equal_error_rate.value(sums)), 6)
            name = names[int(mine.argmax())]
            found.append({"identity": name, "rows": int(mine.sum()), "equal_error_rate": rate})
    order = sorted(found, key=lambda one: (-float(one["equal_error_rate"]), str(one["identity"])))
    return order[:_MOST_IDENTITIES]


def _worst(judged: Judged) -> list[dict[str, Any]]:
    genuine, impostors = [], []
    for rows, scores, kinds in pairs(judged.predictions, judged.test):
        after = np.arange(scores.shape[1]) > rows[:, None]  # each pair once
        genuine += _lowest(rows, scores, after & (kinds == 1))
        impostors += _lowest(rows, -scores, after & (kinds == 0))
    chosen = [("genuine", score, row, other) for score, row, other in _distinct(genuine)]
    chosen += [("impostors", -score, row, other) for score, row, other in _distinct(impostors)]
    return [
        {"kind": kind, "row": row, "other": other, "score": round(score, 4)}
        for kind, score, row, other in chosen
    ]


def _lowest(rows: np.ndarray, scores: np.ndarray, chosen: np.ndarray) -> list[tuple[float, int, int]]:
    at, other = chosen.nonzero()
    found = scores[at, other]
    order = np.argsort(found, kind="stable")[:_CANDIDATES]
    return [(float(found[n]), int(rows[at[n]]), int(other[n])) for n in order]


def _distinct(found: list[tuple[float, int, int]]) -> Iterator[tuple[float, int, int]]:
    """The first of them in which no row comes again."""
    seen: set[int] = set()
    count = 0
    for score, row, other in sorted(found):
        if count < _WORST and not {row, other} & seen:
            seen |= {row, other}
            count += 1
            yield score, row, other
