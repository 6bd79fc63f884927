"""Rows to label first, chosen by a model, beside as many chosen at random: accuracy after each.

    python -m benchmarks.trust.suggest [banking77] [cifar10]

A softmax head on frozen features. It begins with 100 random rows; then rows are chosen, labelled and the head
is fitted again, up to 2,000. Results: benchmarks/results/trust_suggest.json.
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
SEEDS = range(5)


def curve(data: Frozen, selection: Selection, seed: int, budgets: tuple[int, ...]) -> list[float]:
    """Accuracy on the test rows after each of the budgets; all selections begin with the same rows."""
    labelled = np.random.default_rng(seed).permutation(len(data.train))[: budgets[0]]
    found = []
    for budget, following in zip(budgets, (*budgets[1:], None), strict=True):
        free = np.setdiff1d(np.arange(len(data.train)), labelled)
        asked = np.concatenate([data.test, data.train[free]])
        told = probabilities(data.train[labelled], data.targets[labelled], asked, data.classes)
        found.append(float((told[: len(data.test)].argmax(axis=1) == data.answers).mean()))
        if following is not None:
            more = selection(data.train[free], told[len(data.test) :], following - budget, seed)
            labelled = np.concatenate([labelled, free[more]])
    return found


def rows_saved(curves: np.ndarray, random: np.ndarray) -> list[dict[str, Any]]:
    """Of each budget the rows that random choice needs for the same accuracy, by its mean curve, as a
    multiple of the budget: mean and 95% interval over seeds (Student's t)."""
    from scipy.stats import t

    budgets = np.log(BUDGETS + BEYOND)
    mean = np.maximum.accumulate(random.mean(axis=0))
    found = []
    for place, budget in enumerate(BUDGETS[1:], 1):
        needed = np.exp(np.interp(curves[:, place], mean, budgets))
        ratio = needed / budget
        half = float(t.ppf(0.975, len(ratio) - 1) * ratio.std(ddof=1) / len(ratio) ** 0.5)
        beyond = bool((curves[:, place] >= mean[-1]).any())
        found.append(
            {
                "labels": budget,
                "ratio": round(float(ratio.mean()), 3),
                "half": round(half, 3),
                "at_end": beyond,
            }
        )
    return found


def measured(name: str, kept: Path) -> dict[str, Any]:
    data = frozen(name, kept)
    curves = {}
    for title, selection in SELECTIONS.items():
        budgets = BUDGETS + (BEYOND if title == "random" else ())
        curves[title] = np.array([curve(data, selection, seed, budgets) for seed in SEEDS])
        print(name, title, curves[title].mean(axis=0).round(4).tolist(), flush=True)
    table = {}
    for title, those in curves.items():
        those = those[:, : len(BUDGETS)]
        gain = those - curves["random"][:, : len(BUDGETS)]
        half = 2.776 * gain.std(axis=0, ddof=1) / len(SEEDS) ** 0.5
        table[title] = {
            "accuracy": those.mean(axis=0).round(4).tolist(),
            "gain": gain.mean(axis=0).round(4).tolist(),
            "gain_half": half.round(4).tolist(),
            "random_rows_for_the_same": rows_saved(those, curves["random"]),
        }
    return {"budgets": list(BUDGETS), "seeds": len(SEEDS), "pool": len(data.train), "selections": table}


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    reader.add_argument("parts", nargs="*", help="banking77, cifar10")
    reader.add_argument("--kept", type=Path, default=ROOT / "build" / "frozen", help="where features lie")
    arguments = reader.parse_args()
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in arguments.parts or ["banking77", "cifar10"]:
        kept[name] = {"machine": machine(), **measured(name, arguments.kept)}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
