"""The anchor in a year of twelve monthly retrains that each lose a little: where the champion ends.

    python -m benchmarks.trust.anchor

Each month has new test rows, as many for all; the candidate's true accuracy is the champion's and a constant
drift. A row's chance of being answered right is drawn for it, so that two equal models differ on about 10%
of the rows. `not-worse` goes by the statistic of the gate's exact test with its normal cut, which agrees
with it to within a row or two; `better` is exact. Results go to benchmarks/results/trust_anchor.json.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks._runs import ROOT, machine
from benchmarks.trust._policies import ALPHA, promoted
from benchmarks.trust.gate import table
from retrainer.gate.exact import score

RESULTS = ROOT / "benchmarks" / "results" / "trust_anchor.json"
SEED = 2026
MONTHS = 12
ACCURACY = 0.9
AT_ONCE = 20
_Z = 1.6448536269514722  # of ALPHA = 0.05

# (test rows, margin, monthly drift in margins, years)
CASES = [
    (rows, margin, drift, years)
    for rows, margin, years in ((20_000, 0.05, 100), (3_000, 0.05, 400), (3_000, 0.02, 400))
    for drift in (-0.8, -0.4, 0.0, 0.3)
]
RULES = ("not-worse", "not-worse, anchor", "better", "better, anchor")


@dataclass
class Year:
    """Years [Y] side by side: which models are champion and anchor, by number, and their accuracies."""

    champion: np.ndarray
    anchor: np.ndarray
    truth: np.ndarray
    anchor_truth: np.ndarray
    promotions: np.ndarray
    first_held: np.ndarray


def right(chance: np.ndarray, truth: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """bool [Y, rows]: a better model has some of what others miss, a worse one misses some of theirs."""
    lift = (np.clip(truth, 0, 1) - ACCURACY)[:, None]
    odds = chance + np.where(lift > 0, lift / (1 - ACCURACY) * (1 - chance), lift / ACCURACY * chance)
    return np.asarray(draw.random(chance.shape) < odds)


def passes(rule: str, mine: np.ndarray, its: np.ndarray, margin: float) -> np.ndarray:
    """bool [Y]: `better`, or not worse by the margin."""
    better, worse, rows = (mine & ~its).sum(axis=1), (its & ~mine).sum(axis=1), mine.shape[1]
    if rule == "better":
        return promoted("better", rows, better, worse, 0.0)
    return np.asarray(score(better, worse, rows, margin) >= _Z)


def month(
    number: int, year: Year, rule: str, case: tuple[int, float, float], draw: np.random.Generator
) -> None:
    rows, margin, drift = case
    policy, anchored = rule.partition(",")[0], rule.endswith("anchor")
    chance = draw.beta(1.125, 0.125, size=(len(year.truth), rows))
    new = year.truth + drift * margin
    candidate, champion = (right(chance, truth, draw) for truth in (new, year.truth))
    same = (year.anchor == year.champion)[:, None]
    anchor = np.where(same, champion, right(chance, year.anchor_truth, draw))
    is_better = passes("better", candidate, champion, margin)
    takes = passes(policy, candidate, champion, margin)
    if anchored:
        takes &= same[:, 0] | is_better | passes("not-worse", candidate, anchor, margin)
    raises = takes & passes("better", candidate, anchor, margin)
    year.first_held = np.where((year.first_held == 0) & ~takes, number, year.first_held)
    year.promotions += takes
    year.champion, year.truth = np.where(takes, number, year.champion), np.where(takes, new, year.truth)
    year.anchor = np.where(raises, number, year.anchor)
    year.anchor_truth = np.where(raises, new, year.anchor_truth)


def followed(rule: str, rows: int, margin: float, drift: float, years: int) -> dict[str, Any]:
    done = []
    for start in range(0, years, AT_ONCE):
        draw = np.random.default_rng((SEED, rows, round(1e4 * margin), round(100 + 10 * drift), start))
        none: np.ndarray = np.zeros(AT_ONCE, dtype=np.int64)
        first = np.full(AT_ONCE, ACCURACY)
        year = Year(none, none, first, first, none.copy(), none)
        for number in range(1, MONTHS + 1):
            month(number, year, rule, (rows, margin, drift), draw)
        done.append(year)
    change = (np.concatenate([year.truth for year in done]) - ACCURACY) / margin
    held = np.concatenate([year.first_held for year in done])
    return {
        "rule": rule,
        "test rows": rows,
        "margin": margin,
        "drift a month, margins": drift,
        "years": years,
        "promotions a year": float(np.concatenate([year.promotions for year in done]).mean()),
        "first held in month (median)": float(np.median(np.where(held == 0, MONTHS + 1, held))),
        "last champion, margins": float(change.mean()),
        "worst 5% of years, margins": float(np.quantile(change, 0.05)),
    }


def main() -> None:
    began = time.perf_counter()
    rows = [followed(rule, *case) for case in CASES for rule in RULES]
    print(table(rows), flush=True)
    seconds = round(time.perf_counter() - began, 1)
    kept = {
        "machine": machine(),
        "seed": SEED,
        "alpha": ALPHA,
        "seconds": seconds,
        "tables": {"a year": rows},
    }
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    print(f"\n{seconds} s")


if __name__ == "__main__":
    main()
