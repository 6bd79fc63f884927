"""Simulated pairs of models: how often each policy promotes one that is equal, worse, or better."""

from __future__ import annotations

import numpy as np

from benchmarks.trust._policies import ALPHA, MARGIN, POLICIES, exact_rate, promoted
from retrainer.gate.exact import smallest_gain

Row = dict[str, float | int | str]

ROWS = (200, 500, 1000, 3000)
SHARES = (0.02, 0.05, 0.1, 0.2)
GAINS = (0.01, 0.02, 0.03, 0.05)
DRAWS = 20_000
# The champion's accuracy in single comparisons (only `unpaired` looks at it), and every model's in a year.
CHAMPION = 0.85
ACCURACY = 0.9


def counts(rows: int, share: float, gain: float, draw: np.random.Generator) -> tuple[np.ndarray, ...]:
    """(better, worse, champion's accuracy), each [DRAWS]: on `share` of the rows one alone is right."""
    better, worse = (share + gain) / 2, (share - gain) / 2
    both = CHAMPION - worse
    drawn = draw.multinomial(rows, [better, worse, both, 1 - better - worse - both], size=DRAWS)
    return drawn[:, 0], drawn[:, 1], (drawn[:, 1] + drawn[:, 2]) / rows


def rates(rows: int, share: float, gain: float, policies: tuple[str, ...], seed: int) -> dict[str, float]:
    """The share of draws that each policy promotes."""
    drawn = counts(
        rows, share, gain, np.random.default_rng((seed, rows, int(1000 * share), int(1000 + 1000 * gain)))
    )
    return {policy: float(promoted(policy, rows, *drawn).mean()) for policy in policies}


def equal_models(seed: int) -> list[Row]:
    """What each policy promotes of models that are equal; `not-worse` also of ones worse by its margin."""
    others = tuple(policy for policy in POLICIES if policy != "not-worse")
    found: list[Row] = []
    for rows in ROWS:
        for share in SHARES:
            row: Row = {"rows": rows, "discordant": share, **rates(rows, share, 0.0, others, seed)}
            row["not-worse, worse by the margin"] = rates(rows, share, -MARGIN, ("not-worse",), seed)[
                "not-worse"
            ]
            row["the same, exact"] = exact_rate("not-worse", rows, share, -MARGIN)
            row["not-worse, equal"] = rates(rows, share, 0.0, ("not-worse",), seed)["not-worse"]
            found.append(row)
    return found


def better_models(seed: int) -> list[Row]:
    """How often `better` finds a gain, at every share of discordant rows that can hold it."""
    found: list[Row] = []
    for rows in ROWS:
        for share in SHARES:
            row: Row = {"rows": rows, "discordant": share}
            for gain in GAINS:
                if gain <= share:
                    row[f"{100 * gain:+.0f} points"] = rates(rows, share, gain, ("better",), seed)["better"]
            smallest = smallest_gain(rows, share, ALPHA, 0.8)
            assert smallest is not None
            found.append({**row, "smallest at 80% power": round(smallest, 4)})
    return found


def year(scatter: float, repetitions: int, rows: int, seed: int) -> list[Row]:
    """Twelve months, each with a new model that is no better by intent, all judged on the same test rows.

    A row's chance of being answered right is drawn once (mean 0.9, so that two models differ on 10% of the
    rows). Each model's accuracy strays from the common one by `scatter` (a standard deviation, in accuracy),
    as a new seed does; it is what an endless holdout would show.
    """
    draw = np.random.default_rng((seed, int(1e4 * scatter)))
    months, tables = 13, []
    for _ in range(repetitions // 500):
        chance = draw.beta(1.125, 0.125, size=(500, 1, rows))
        truth = np.clip(ACCURACY + scatter * draw.normal(size=(500, months)), 0, 1)
        lift = (truth - ACCURACY)[:, :, None]
        # A better model has some of what others miss, a worse one misses some of what others have.
        odds = chance + np.where(lift > 0, lift / (1 - ACCURACY) * (1 - chance), lift / ACCURACY * chance)
        tables.append((draw.random((500, months, rows)) < odds, truth))
    return [_followed(policy, tables, rows, scatter) for policy in POLICIES]


def _followed(policy: str, tables: list[tuple[np.ndarray, np.ndarray]], rows: int, scatter: float) -> Row:
    promotions, change, shown = [], [], []
    for right, truth in tables:
        moved, champion = follow(policy, right)
        each = np.arange(len(right))
        promotions.append(moved)
        change.append(truth[each, champion] - truth[:, 0])
        shown.append(right[each, champion].mean(axis=1) - truth[each, champion])
    moved = np.concatenate(promotions)
    return {
        "policy": policy,
        "test rows": rows,
        "scatter of accuracy": scatter,
        "years": len(moved),
        "promotions a year": float(moved.mean()),
        "years with any": float((moved > 0).mean()),
        "true accuracy, last − first, points": 100 * float(np.concatenate(change).mean()),
        "test accuracy − true, of the last, points": 100 * float(np.concatenate(shown).mean()),
    }


def follow(policy: str, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool [years, models, rows] → promotions [years], and which model is champion at the end [years]."""
    years, models, rows = right.shape
    each, champion, moved = np.arange(years), np.zeros(years, dtype=np.int64), np.zeros(years, dtype=np.int64)
    for month in range(1, models):
        candidate, held = right[:, month], right[each, champion]
        better, worse = (candidate & ~held).sum(axis=1), (held & ~candidate).sum(axis=1)
        takes = promoted(policy, rows, better, worse, held.mean(axis=1))
        champion, moved = np.where(takes, month, champion), moved + takes
    return moved, champion
