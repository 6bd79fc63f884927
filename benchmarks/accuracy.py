"""Accuracy of the recipes over seeds, beside the cheap baseline on the same rows.

    python -m benchmarks.accuracy [sentiment] [digits] [transfer] [banking77]

Prints one table and writes `benchmarks/results/<name>.json` with machine, versions, settings and seeds.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._runs import ROOT, machine, run_recipe

RESULTS = Path(__file__).parent / "results"
BANKING = ROOT.parent / "shared" / "data" / "banking77"

Row = dict[str, Any]


def _row(name: str, recipe: str | None, overrides: list[str], seed: int, into: Path) -> Row:
    began = time.perf_counter()
    figures = run_recipe(recipe, [*overrides, f"training.seed={seed}"], into / f"{name}-{seed}")
    cheap = next(value for key, value in figures["baselines"].items() if key != "majority")
    return {
        "name": name,
        "seed": seed,
        "accuracy": figures["metrics"]["accuracy"]["value"],
        "baseline": cheap["metrics"]["accuracy"]["value"],
        "majority": figures["baselines"]["majority"]["metrics"]["accuracy"]["value"],
        "n": figures["metrics"]["accuracy"]["n"],
        "train_seconds": round(figures["train_seconds"], 1),
        "seconds": round(time.perf_counter() - began, 1),
        "overrides": overrides,
    }


def sentiment(into: Path) -> list[Row]:
    """The default recipe, three seeds on its own split, then on two other splits."""
    rows = [_row("sentiment-minilm", None, [], seed, into) for seed in range(3)]
    for salt in ("a", "b"):
        rows += [
            _row(f"sentiment-minilm, split {salt}", None, [f"split.salt={salt}"], seed, into)
            for seed in range(3)
        ]
    return rows


def digits(into: Path) -> list[Row]:
    return [_row("digits-mlp", "digits-mlp", [], seed, into) for seed in range(3)]


def transfer(into: Path) -> list[Row]:
    """ResNet-18 on 10 examples a class of five digits: from a model of the other five, and from scratch."""
    backbone = into / "backbone"
    run_recipe("digits-backbone", [], backbone)
    start = [f"backbone.weights={backbone / 'model'}"]
    rows = [_row("digits-resnet18", "digits-resnet18", start, seed, into) for seed in range(5)]
    scratch = ["training.strategy=scratch"]
    rows += [_row("the same from scratch", "digits-resnet18", scratch, seed, into) for seed in range(5)]
    longer = [*scratch, "training.epochs=32"]
    return rows + [
        _row("from scratch, twice as long", "digits-resnet18", longer, seed, into) for seed in range(5)
    ]


def banking77(into: Path) -> list[Row]:
    """Full fine-tuning of MiniLM on Banking77, its own test file."""
    own = [
        f"source.path={BANKING / 'train.csv'}",
        f"source.test_path={BANKING / 'test.csv'}",
        "source.label=category",
        "checks.test_overlap=0.003",  # 7 of its questions stand in both files
        *(f"training.{key}={value}" for key, value in BANKING_TRAINING.items()),
    ]
    return [_row("banking77", None, own, seed, into) for seed in range(2)]


BANKING_TRAINING = {
    "epochs": 6,
    "batch_size": 32,
    "learning_rate": 2e-3,
    "backbone_learning_rate": 2e-4,
    "label_smoothing": 0.1,
}
STUDIES: dict[str, Callable[[Path], list[Row]]] = {
    "sentiment": sentiment,
    "digits": digits,
    "transfer": transfer,
    "banking77": banking77,
}


def table(rows: list[Row]) -> str:
    """One line a name: mean accuracy over its seeds, the baseline on the same rows, the gap in points."""
    lines = [f"{'':32} seeds     n  accuracy    ± sd  baseline  points  train s"]
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        mean = statistics.mean(row["accuracy"] for row in mine)
        spread = statistics.stdev(row["accuracy"] for row in mine) if len(mine) > 1 else 0.0
        baseline = statistics.mean(row["baseline"] for row in mine)
        seconds = statistics.median(row["train_seconds"] for row in mine)
        lines.append(
            f"{name:32} {len(mine):5} {mine[0]['n']:5} {mean:9.4f} {spread:7.4f} {baseline:9.4f}"
            f" {100 * (mean - baseline):+7.1f} {seconds:8.1f}"
        )
    return "\n".join(lines)


def main(names: list[str]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as into:
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{into}/mlflow.db")
        for name in names or list(STUDIES):
            rows = STUDIES[name](Path(into))
            for row in rows:  # no path of this machine in what is kept
                row["overrides"] = [text for text in row["overrides"] if "/" not in text]
            kept = json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n"
            (RESULTS / f"{name}.json").write_text(kept)
            print(table(rows), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
