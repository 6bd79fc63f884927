"""Corrections for many classes on simulated pairs of models: false holds, and power.

    Holm      a p-value times the number of tests that were not refused before it
    discrete  the gate's (`retrainer.gate.corrected`): what each test can err, of the p-values it can take
    largest   the largest standardised loss of all classes, against its distribution when each discordant row
              favours either model by a coin (Westfall and Young's single step)

Legend: K classes, T trials.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import bdtrc

from retrainer.gate.corrected import PValue, corrected

ALPHA = 0.05
DROPS = (0.0, 0.1, 0.2)
RECALL = 0.95
FLIPS = 1000


def counts(
    classes: int, rows: int, discordant: float, drop: float, draw: np.random.Generator
) -> tuple[Any, Any]:
    """int [K] each: rows that the candidate, or the champion, alone has right. The first class drops."""
    won, lost = np.full(classes, discordant / 2), np.full(classes, discordant / 2)
    lost[0] += drop
    won[0] = min(won[0], 1 - RECALL) if drop else won[0]
    drawn = draw.multinomial(rows, np.stack([won, lost, 1 - won - lost], axis=1))
    return drawn[:, 0], drawn[:, 1]


def p_values(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """McNemar's, one-sided: is the champion better?"""
    return np.where(worse > 0, np.minimum(1.0, bdtrc(worse - 1.0, better + worse, 0.5)), 1.0)


def holm(values: np.ndarray) -> np.ndarray:
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    found = np.empty(len(values))
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return found


def largest(better: np.ndarray, worse: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    discordant = better + worse
    root = np.sqrt(np.maximum(discordant, 1))
    flips = draw.binomial(discordant, 0.5, size=(FLIPS, len(better)))
    reach = ((2 * flips - discordant) / root).max(axis=1)
    seen = (worse - better) / root
    return np.asarray((1 + (reach[:, None] >= seen - 1e-9).sum(axis=0)) / (1 + FLIPS))


def rates(classes: int, rows: int, discordant: float, drop: float, trials: int, seed: int) -> dict[str, Any]:
    """How often any class holds (no drop), or the class that drops is found."""
    draw = np.random.default_rng((seed, classes, rows, round(1000 * discordant), round(100 * drop)))
    names = ("Holm", "discrete", "largest")
    found = {(name, least): 0 for name in names for least in DROPS}
    looked = slice(0, 1) if drop else slice(None)
    for _ in range(trials):
        better, worse = counts(classes, rows, discordant, drop, draw)
        values = p_values(better, worse)
        tests = [PValue(float(p), int(n)) for p, n in zip(values, better + worse, strict=True)]
        each = (holm(values), np.array(corrected(tests)), largest(better, worse, draw))
        for name, one in zip(names, each, strict=True):
            for least in DROPS:
                held = (one <= ALPHA) & ((worse - better) / rows > least)
                found[name, least] += bool(held[looked].any())
    about = {"classes": classes, "rows a class": rows, "discordant": discordant, "drop, points": 100 * drop}
    rates = {f"{name}, above {100 * least:g} points": n / trials for (name, least), n in found.items()}
    return about | {"trials": trials} | rates
