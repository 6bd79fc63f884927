"""Rows to label first, chosen by a model, beside as many chosen at random: accuracy after each.

    python -m benchmarks.trust.suggest [banking77] [cifar10] [--selections random badge …] [--seeds 0 1 2 3 4]

A softmax head on frozen features. It begins with 100 random rows; then rows are chosen, labelled and the head
is fitted again, up to 2,000. All selections of a seed begin with the same rows. What was run once is kept in
benchmarks/results/trust_suggest.json, and not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._runs import ROOT, machine
from benchmarks.trust._frozen import Frozen, frozen, probabilities
from benchmarks.trust._selections import SELECTIONS, Selection

RESULTS = ROOT / "benchmarks" / "results" / "trust_suggest.json"
BUDGETS = (100, 200, 300, 500, 750, 1000, 1500, 2000)
# Random choice goes further, so that its labels for the same accuracy are known.
BEYOND = (3000, 4500)
SEEDS = (0, 1, 2, 3, 4)
RANDOM = "random"


def curve(data: Frozen, selection: Selection, seed: int, budgets: tuple[int, ...]) -> list[float]:
    """Accuracy on the test rows after each of the budgets."""
    labelled = np.random.default_rng(seed).permutation(len(data.train))[: budgets[0]]
    found = []
    for budget, following in zip(budgets, (*budgets[1:], None), strict=True):
        free = np.setdiff1d(np.arange(len(data.train)), labelled)
        both = np.concatenate([data.test, data.train[free]])
        shares = probabilities(data.train[labelled], data.targets[labelled], both, data.classes)
        found.append(float((shares[: len(data.test)].argmax(axis=1) == data.answers).mean()))
        if following is not None:
            more = selection(data.train[free], shares[len(data.test) :], following - budget, seed)
            labelled = np.concatenate([labelled, free[more]])
    return found


def half_width(values: np.ndarray) -> np.ndarray:
    """Of the means over seeds (axis 0) half of the 95% interval, by Student's t; nan for a single seed."""
    from scipy.stats import t

    seeds = len(values)
    if seeds < 2:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(t.ppf(0.975, seeds - 1) * values.std(axis=0, ddof=1) / seeds**0.5)


def rows_saved(curves: np.ndarray, random: np.ndarray) -> list[dict[str, Any]]:
    """Of each budget the rows that random choice needs for the same accuracy, by its mean curve, as a
    multiple of the budget. `at_end`: it did not get there with any number that was tried."""
    budgets = np.log(BUDGETS + BEYOND)
    mean = np.maximum.accumulate(random.mean(axis=0))
    found = []
    for place, budget in enumerate(BUDGETS[1:], 1):
        ratio = np.exp(np.interp(curves[:, place], mean, budgets)) / budget
        beyond = bool((curves[:, place] >= mean[-1]).any())
        half = float(half_width(ratio[:, None])[0])
        found.append(
            {
                "labels": budget,
                "ratio": round(float(ratio.mean()), 3),
                "half": round(half, 3),
                "at_end": beyond,
            }
        )
    return found


def table(kept: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Of each selection the mean accuracy, and the gain over random choice of the same seeds."""
    found = {}
    for title, runs in kept.items():
        seeds = sorted(set(runs) & set(kept[RANDOM]), key=int)
        if not seeds:
            continue
        mine = np.array([runs[seed][: len(BUDGETS)] for seed in seeds])
        random = np.array([kept[RANDOM][seed] for seed in seeds])
        gain = mine - random[:, : len(BUDGETS)]
        found[title] = {
            "seeds": len(seeds),
            "accuracy": mine.mean(axis=0).round(4).tolist(),
            "gain": gain.mean(axis=0).round(4).tolist(),
            "gain_half": half_width(gain).round(4).tolist(),
            "random_rows_for_the_same": rows_saved(mine, random),
        }
    return found


def run(name: str, features: Path, titles: list[str], seeds: list[int]) -> None:
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept: dict[str, dict[str, list[float]]] = results.get(name, {}).get("runs", {})
    missing = [(seed, one) for seed in seeds for one in titles if str(seed) not in kept.get(one, {})]
    data = frozen(name, features)
    for seed, title in missing:
        budgets = BUDGETS + (BEYOND if title == RANDOM else ())
        found = [round(one, 5) for one in curve(data, SELECTIONS[title], seed, budgets)]
        kept.setdefault(title, {})[str(seed)] = found
        print(name, title, seed, found, flush=True)
    about = {"machine": machine(), "budgets": list(BUDGETS), "pool": len(data.train), "test": len(data.test)}
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[name] = about | {"selections": table(kept), "runs": kept}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", help="banking77, cifar10")
    parser.add_argument("--kept", type=Path, default=ROOT / "build" / "frozen", help="where features lie")
    parser.add_argument("--selections", nargs="+", default=list(SELECTIONS), choices=list(SELECTIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    arguments = parser.parse_args()
    for name in arguments.parts or ["banking77", "cifar10"]:
        run(name, arguments.kept, arguments.selections, arguments.seeds)


if __name__ == "__main__":
    main()
