"""How often three resampling tests pass a model that is no better, or worse by just the margin.

All look at the same simulated pairs: the basic bootstrap (this project's, at fewer draws), the percentile
bootstrap, and the permutation that swaps the two answers within rows. A pair are two noisy views of the same
rows: five classes of unlike size, a difficulty that both share, noise of their own. What the weaker candidate
truly loses is measured once on many rows, and is then the margin.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from retrainer import metrics
from retrainer.gate.compare import FEWEST_DISCORDANT
from retrainer.gate.measured import Measured, measure
from retrainer.gate.pair import Pair

Row = dict[str, float | int | str]

LABELS = ("a", "b", "c", "d", "e")
SHARES = (0.4, 0.3, 0.15, 0.1, 0.05)
DRAWS = 1000
ALPHA = 0.05
_TRUTH_ROWS = 400_000
# Skill of candidate and champion.
CASES = {"equal": (4.0, 4.0), "worse by the margin": (3.8, 4.0)}


def pair(metric: str, rows: int, skills: tuple[float, float], draw: np.random.Generator) -> Pair:
    """Two models' figures on the same rows."""
    truth = draw.choice(len(LABELS), rows, p=SHARES)
    shared = 1.2 * draw.normal(size=(rows, len(LABELS)))
    named = pa.table({"labels": [[LABELS[n]] for n in truth]})
    found = []
    for skill in skills:
        logits = shared + 0.8 * draw.normal(size=shared.shape)
        logits[np.arange(rows), truth] += skill
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        predictions = _predictions(powers / powers.sum(axis=1, keepdims=True))
        found.append(measure(metrics.load(metric, "metric"), metric, predictions, named))
    return Pair(*found)


def _predictions(probabilities: np.ndarray) -> pa.Table:
    fields = pa.StructArray.from_arrays([pa.array(one) for one in probabilities.T], list(LABELS))
    names = [LABELS[n] for n in probabilities.argmax(axis=1)]
    return pa.table({"label": names, "probabilities": fields})


def deficit(metric: str, skills: tuple[float, float]) -> float:
    """By how much the candidate is truly worse."""
    return -pair(metric, _TRUTH_ROWS, skills, np.random.default_rng(5)).gain


def sizes(metric: str, rows: int, case: str, trials: int, seed: int) -> Row:
    """The share of the trials that each test passes where it should pass ALPHA of them at most."""
    skills = CASES[case]
    margin = 0.0 if case == "equal" else deficit(metric, skills)
    draw = np.random.default_rng(seed)
    weights = draw.multinomial(rows, np.full(rows, 1 / rows), size=DRAWS).astype(np.float64)
    swaps = (draw.random((DRAWS, rows)) < 0.5).astype(np.float64)
    passed = dict.fromkeys(("basic", "percentile", "permutation"), 0)
    telling = 0
    for _ in range(trials):
        models = pair(metric, rows, skills, draw)
        differ = int(models.discordant.sum())
        telling += differ
        found = _p_values(models, margin, weights, swaps)
        if differ < FEWEST_DISCORDANT:
            found["basic"] = 1.0
        for name, p_value in found.items():
            passed[name] += p_value <= ALPHA
    shares = {name: count / trials for name, count in passed.items()}
    about: Row = {"metric": metric, "rows": rows, "case": case, "margin": round(margin, 5), "trials": trials}
    return {**about, "answered differently": round(telling / trials / rows, 4), **shares}


def _p_values(pair: Pair, margin: float, weights: np.ndarray, swaps: np.ndarray) -> dict[str, float]:
    first, second = (one.statistics for one in (pair.candidate, pair.other))
    gain = _gains(pair.candidate, first.sum(axis=0), second.sum(axis=0))
    gains = _gains(pair.candidate, weights @ first, weights @ second)
    # The gain when the two models' answers change places in the rows that `swaps` [D, N] marks.
    moved = swaps @ (second - first)
    swapped = _gains(pair.candidate, first.sum(axis=0) + moved, second.sum(axis=0) - moved)
    return {
        "basic": _share(gains - gain >= gain + margin - 1e-12),
        "percentile": _share(gains + margin <= 0),
        "permutation": _share(swapped >= gain + margin - 1e-12),
    }


def _gains(measured: Measured, mine: np.ndarray, its: np.ndarray) -> np.ndarray:
    metric = measured.metric
    return np.asarray((1 if metric.HIGHER_IS_BETTER else -1) * (metric.value(mine) - metric.value(its)))


def _share(as_far: np.ndarray) -> float:
    return (1 + int(as_far.sum())) / (1 + len(as_far))
