"""What privacy costs: accuracy of private trainings beside others, and what an attack finds of both.

    python -m benchmarks.trust.privacy [sentiment] [banking77] [digits] [--seeds 0 1 2]

`sentiment`, `banking77`: a new head on a frozen MiniLM, of the default recipe's 1,516 word senses and of
Banking77's 10,003 questions (its own test set), with epsilon 1, 3, 8 and without. `digits`: the
784-128-64-10 network on 300 digits, 200 epochs without weight decay or augmentation, so that it learns them
by heart; and the same with epsilon 1. Beside accuracy stand the epsilon that Opacus' accountant says was
spent, and the AUC of the membership-inference attack.

What the attack says of rows that were not learned from stands beside it (`_unlearned.py`). Results, one line
for each training: benchmarks/results/trust_privacy.json; a line that is run again replaces the former one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._runs import ROOT, machine, run_step
from benchmarks.trust._unlearned import other_digits, other_folds
from components.evaluate import evaluate
from components.ingest import ingest
from components.preprocess import preprocess
from components.train import train
from retrainer.resolve import resolve

RESULTS = ROOT / "benchmarks" / "results" / "trust_privacy.json"
BANKING = ROOT.parent / "shared" / "data" / "banking77"
SEEDS = (0, 1, 2)
EPSILONS = (8, 3, 1)
Settings = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """`changes` to the recipe for every training, and the keys of `training` of each, by its title.
    `unlearned`: of the first of them, what the attack finds of rows that it did not learn from."""

    recipe: str | None
    changes: list[str]
    trainings: dict[str, Settings]
    unlearned: Callable[[Path], dict[str, Any]] | None = None


def _private(
    title: str, delta: float, keys: Settings, epsilons: tuple[int, ...] = EPSILONS
) -> dict[str, Any]:
    return {
        f"{title}, epsilon {epsilon}": {**keys, "privacy": {"epsilon": epsilon, "delta": delta}}
        for epsilon in epsilons
    }


_HEAD: Settings = {"strategy": "frozen", "epochs": 30}
# Of many rows a step noise weighs less: private trainings take large batches and high rates.
_LARGE = {"batch_size": 256, "learning_rate": 5e-3}
_BY_HEART: Settings = {
    "epochs": 200,
    "weight_decay": 0.0,
    "keep": "last",
    "batch_size": 64,
    "learning_rate": 2e-3,
}
STUDIES = {
    "sentiment": Study(
        None,
        [],
        {
            "frozen": {**_HEAD, "batch_size": 32, "learning_rate": 1e-3},
            **_private("frozen", 1e-4, {**_HEAD, **_LARGE}),
            **_private(
                "frozen, batches of 32", 1e-4, {**_HEAD, "batch_size": 32, "learning_rate": 1e-3}, (1,)
            ),
            "full": {"strategy": "full", "epochs": 3, "batch_size": 32},
            **_private("lora", 1e-4, {"strategy": "lora", "epochs": 5, **_LARGE}, (3,)),
        },
        other_folds,
    ),
    "banking77": Study(
        None,
        [
            f"source.path={BANKING / 'train.csv'}",
            f"source.test_path={BANKING / 'test.csv'}",
            "source.label=category",
            "checks.test_overlap=0.003",  # 7 of its questions stand in both files
        ],
        {
            "frozen": {**_HEAD, "batch_size": 64, "learning_rate": 5e-3},
            **_private("frozen", 1e-5, {**_HEAD, "batch_size": 1024, "learning_rate": 1e-2}),
        },
    ),
    "digits": Study(
        "digits-mlp",
        [
            "split.train_per_class=30",
            "split.validation=0",
            "task.shift=0",
            "task.rotate_degrees=0",
            "task.scale=0",
        ],
        {
            "by heart": _BY_HEART,
            **_private("by heart", 1e-3, {**_BY_HEART, "batch_size": 128, "epochs": 60}, (1,)),
        },
        other_digits,
    ),
}


def lines(study: Study, seeds: list[int], titles: list[str], into: Path) -> Iterator[dict[str, Any]]:
    """A line for each training, all of one seed first: what is cut short is whole for the first seeds."""
    settled = resolve(study.recipe, study.changes, ROOT, into)
    for step in (ingest, preprocess):
        run_step(step, settled, into)
    for seed in seeds:
        for title, keys in study.trainings.items():
            if not titles or title in titles:
                yield _line(study, title, {**keys, "seed": seed}, into)


def _line(study: Study, title: str, keys: Settings, into: Path) -> dict[str, Any]:
    chosen = [f"training.{key}={json.dumps(value)}" for key, value in keys.items()]
    quick = ["evaluation.baseline=false", "evaluation.explain=0"]
    settled = resolve(study.recipe, [*study.changes, *quick, *chosen], ROOT, into)
    began = time.perf_counter()
    run_step(train, settled, into)
    seconds = time.perf_counter() - began
    run_step(evaluate, settled, into)
    return {"name": title, "seed": keys["seed"], **_figures(into), "train_seconds": round(seconds, 1)}


def _figures(into: Path) -> dict[str, Any]:
    report = json.loads((into / "report" / "metrics.json").read_text())
    attack, spent = report["membership"], report["privacy"]["model"] or {}
    return {
        "accuracy": report["metrics"]["accuracy"]["value"],
        "rows": report["rows"],
        "epsilon_spent": spent.get("epsilon"),
        "noise_multiplier": spent.get("noise_multiplier"),
        "steps": spent.get("steps"),
        "attack_auc": attack["auc"],
        "attack_interval": [attack["low"], attack["high"]],
        "found_at_1_percent": attack["found_at_1_percent"],
    }


def table(found: list[dict[str, Any]]) -> str:
    rows = [f"{'':34}seeds  rows  accuracy    ± sd  epsilon   AUC  intervals       found at 1%"]
    for name in dict.fromkeys(line["name"] for line in found):
        mine = [line for line in found if line["name"] == name]
        accuracies = [line["accuracy"] for line in mine]
        spread = statistics.stdev(accuracies) if len(mine) > 1 else 0.0
        spent = max((line["epsilon_spent"] or 0 for line in mine), default=0)
        auc = statistics.mean(line["attack_auc"] for line in mine)
        share = statistics.mean(line["found_at_1_percent"] for line in mine)
        low, high = (statistics.mean(line["attack_interval"][end] for line in mine) for end in (0, 1))
        rows.append(
            f"{name:34}{len(mine):5} {mine[0]['rows']:5} {statistics.mean(accuracies):9.4f} {spread:7.4f}"
            f" {spent or '–':>8} {auc:5.3f} {low:5.3f} – {high:5.3f} {100 * share:11.1f}%"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("studies", nargs="*", metavar="study", help=", ".join(STUDIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--trainings", nargs="+", default=[], help="their titles; all by default")
    arguments = parser.parse_args()
    for name in arguments.studies or list(STUDIES):
        _run(name, arguments.seeds, arguments.trainings)


def _run(name: str, seeds: list[int], titles: list[str]) -> None:
    study = STUDIES[name]
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{into}/mlflow.db"
        for line in lines(study, seeds, titles, into):
            print(line, flush=True)
            kept = _keep(name, {"lines": [line]})
            if study.unlearned is not None and line["name"] == next(iter(study.trainings)):
                kept = _keep(name, {"unlearned": {str(line["seed"]): study.unlearned(into)}})
                print(json.dumps(kept["unlearned"], indent=1), flush=True)
    print(table(kept["lines"]), flush=True)


def _keep(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Adds to the results of a study; a line of the same training and seed is replaced."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    former = results.get(name, {})
    merged = {
        (line["name"], line["seed"]): line for line in [*former.get("lines", []), *found.get("lines", [])]
    }
    order = {title: place for place, title in enumerate(STUDIES[name].trainings)}
    kept = former | dict(found) | {"machine": machine(), "trainings": STUDIES[name].trainings}
    kept["unlearned"] = {**former.get("unlearned", {}), **found.get("unlearned", {})}
    kept["lines"] = sorted(merged.values(), key=lambda one: (one["seed"], order.get(one["name"], len(order))))
    RESULTS.write_text(json.dumps(results | {name: kept}, indent=1) + "\n")
    return kept


if __name__ == "__main__":
    main()
