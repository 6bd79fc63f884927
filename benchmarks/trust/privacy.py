"""What privacy costs: accuracy of private trainings beside others, and what an attack finds of both.

    python -m benchmarks.trust.privacy [sentiment] [banking77]

A new head on a frozen MiniLM, of the default recipe's 1,516 word senses and of Banking77's 10,003 questions
(its own test set), with epsilon 1, 3, 8 and without; and of the word senses without privacy everything
fine-tuned (`full`). Beside accuracy stand the epsilon that Opacus' accountant says was spent, and the AUC of
the membership-inference attack. Results: benchmarks/results/trust_privacy.json.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks._runs import ROOT, machine, run_step
from components.evaluate import evaluate
from components.ingest import ingest
from components.preprocess import preprocess
from components.train import train
from retrainer.resolve import resolve

RESULTS = ROOT / "benchmarks" / "results" / "trust_privacy.json"
BANKING = ROOT.parent / "shared" / "data" / "banking77"
SEEDS = (0, 1, 2)
EPSILONS = (1, 3, 8)
_SOURCE = [
    f"source.path={BANKING / 'train.csv'}",
    f"source.test_path={BANKING / 'test.csv'}",
    "source.label=category",
    "checks.test_overlap=0.003",  # 7 of its questions stand in both files
]
# Of many rows a step noise weighs less: private trainings take large batches and high rates.
STUDIES: dict[str, dict[str, Any]] = {
    "sentiment": {
        "source": [],
        "frozen": {"epochs": 30, "batch_size": 32, "learning_rate": 1e-3},
        "private": {"epochs": 30, "batch_size": 256, "learning_rate": 5e-3},
        "full": {"epochs": 3, "batch_size": 32},
        "delta": 1e-4,
        "seeds": SEEDS,
    },
    "banking77": {
        "source": _SOURCE,
        "frozen": {"epochs": 30, "batch_size": 64, "learning_rate": 5e-3},
        "private": {"epochs": 30, "batch_size": 1024, "learning_rate": 1e-2},
        "full": None,
        "delta": 1e-5,
        "seeds": SEEDS[:2],
    },
}


def variants(study: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name → keys of `training`."""
    found = {"frozen": {"strategy": "frozen", **study["frozen"]}}
    for epsilon in EPSILONS:
        budget = {"epsilon": epsilon, "delta": study["delta"]}
        found[f"frozen, epsilon {epsilon}"] = {"strategy": "frozen", **study["private"], "privacy": budget}
    if study["full"]:
        found["full"] = {"strategy": "full", **study["full"]}
    return found


def run_study(name: str, into: Path) -> Iterator[dict[str, Any]]:
    """A line for each training, all of one seed first: what is cut short is whole for the first seeds."""
    study = STUDIES[name]
    settled = resolve(None, [*study["source"], "evaluation.baseline=false"], ROOT, into)
    for step in (ingest, preprocess):
        run_step(step, settled, into)
    for seed in study["seeds"]:
        for title, keys in variants(study).items():
            yield _line(title, keys | {"seed": seed}, study["source"], into)


def _line(title: str, keys: Mapping[str, Any], source: list[str], into: Path) -> dict[str, Any]:
    chosen = [f"training.{key}={json.dumps(value)}" for key, value in keys.items()]
    settled = resolve(None, [*source, "evaluation.baseline=false", *chosen], ROOT, into)
    began = time.perf_counter()
    run_step(train, settled, into)
    seconds = time.perf_counter() - began
    run_step(evaluate, settled, into)
    report = json.loads((into / "report" / "metrics.json").read_text())
    attack, spent = report["membership"], report["privacy"]["model"] or {}
    return {
        "name": title,
        "seed": keys["seed"],
        "accuracy": report["metrics"]["accuracy"]["value"],
        "rows": report["rows"],
        "epsilon_spent": spent.get("epsilon"),
        "noise_multiplier": spent.get("noise_multiplier"),
        "steps": spent.get("steps"),
        "attack_auc": attack["auc"],
        "attack_interval": [attack["low"], attack["high"]],
        "found_at_1_percent": attack["found_at_1_percent"],
        "train_seconds": round(seconds, 1),
    }


def table(lines: list[dict[str, Any]]) -> str:
    rows = [f"{'':22}seeds  rows  accuracy    ± sd  epsilon   AUC  found at 1%"]
    for name in dict.fromkeys(line["name"] for line in lines):
        mine = [line for line in lines if line["name"] == name]
        accuracies = [line["accuracy"] for line in mine]
        spread = statistics.stdev(accuracies) if len(mine) > 1 else 0.0
        spent = max((line["epsilon_spent"] or 0 for line in mine), default=0)
        auc = statistics.mean(line["attack_auc"] for line in mine)
        found = statistics.mean(line["found_at_1_percent"] for line in mine)
        rows.append(
            f"{name:22}{len(mine):5} {mine[0]['rows']:5} {statistics.mean(accuracies):9.4f} {spread:7.4f}"
            f" {spent or '–':>8} {auc:5.3f} {100 * found:11.1f}%"
        )
    return "\n".join(rows)


def main(names: list[str]) -> None:
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or list(STUDIES):
        with tempfile.TemporaryDirectory() as into:
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{into}/mlflow.db"
            lines: list[dict[str, Any]] = []
            for line in run_study(name, Path(into)):
                print(line, flush=True)
                lines.append(line)
                kept[name] = {"machine": machine(), "settings": _settings(name), "lines": lines}
                RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
        print(table(lines), flush=True)


def _settings(name: str) -> dict[str, Any]:
    """Without paths of this machine."""
    return {key: value for key, value in STUDIES[name].items() if key != "source"}


if __name__ == "__main__":
    main(sys.argv[1:])
