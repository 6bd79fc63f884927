"""A few examples of each class: prototypes and a logistic regression on the same frozen features; and how
good a search by them is.

    python -m benchmarks.few_shot KEPT [banking77] [cifar10]

Banking77 by MiniLM (77 classes, its own 3,080 test questions), CIFAR-10 by EfficientNet-Lite0 at 96 pixels
(10 classes, 12,000 and 3,000 pictures); neither network has been trained on them. Features are computed once
and kept below KEPT. Of each class 1, 5, 10 or all training rows are drawn by each of five seeds, as
`training.examples_per_class` draws them. Prints a table and writes `benchmarks/results/few_shot.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks._runs import ROOT, machine
from benchmarks.trust._frozen import Frozen, frozen
from benchmarks.trust.suggest import half_width
from retrainer.gate.intervals import wilson
from retrainer.search.measure import recall_at, said
from retrainer.settings import Training
from retrainer.tasks._heads import PrototypeHead
from retrainer.training._examples import examples

RESULTS = ROOT / "benchmarks" / "results" / "few_shot.json"
EXAMPLES = (1, 5, 10, 0)
SEEDS = (0, 1, 2, 3, 4)


def drawn(data: Frozen, count: int, seed: int) -> np.ndarray:
    """Numbers of the training rows to learn from."""
    rows = pa.table(
        {"labels": [[str(code)] for code in data.targets.tolist()], "row": np.arange(len(data.targets))}
    )
    training = Training.parse({"examples_per_class": count, "seed": seed}, "training")
    return examples(rows, {"labels": "strings"}, training)["row"].to_numpy()


def prototypes(data: Frozen, rows: np.ndarray) -> float:
    head = PrototypeHead(data.train.shape[1], data.classes)
    head.learn(torch.from_numpy(data.train[rows]), torch.from_numpy(data.targets[rows]))
    return float((head(torch.from_numpy(data.test)).argmax(1).numpy() == data.answers).mean())


def regression(data: Frozen, rows: np.ndarray) -> float:
    """On features of length 1 from the middle of the rows: as prototypes see them."""
    from sklearn.linear_model import LogisticRegression

    middle = data.train[rows].mean(0)
    seen, asked = (one - middle for one in (data.train[rows], data.test))
    seen, asked = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (seen, asked))
    model = LogisticRegression(C=10.0, max_iter=500).fit(seen, data.targets[rows])
    return float((model.predict(asked) == data.answers).mean())


def measured(data: Frozen) -> list[dict[str, Any]]:
    """Of each number of examples and each head: each seed's accuracy, their mean, half of its interval."""
    found = []
    for count in EXAMPLES:
        seeds = SEEDS if count else SEEDS[:1]
        parts = [drawn(data, count, seed) for seed in seeds]
        for name, head in (("prototypes", prototypes), ("logistic regression", regression)):
            values = np.array([head(data, rows) for rows in parts])
            half = float(half_width(values[:, None])[0]) if count else None
            of_rows = wilson(round(float(values.mean()) * len(data.answers)), len(data.answers), 0.95)
            line = {"examples": count, "head": name, "values": values.round(5).tolist(), "half": half}
            found.append(line | {"mean": float(values.mean()), "interval_of_the_test_rows": of_rows})
            print(line, flush=True)
    return found


def main(kept: str, *names: str) -> None:
    results: dict[str, Any] = {"machine": machine(), "seeds": SEEDS}
    for name in names or ("banking77", "cifar10"):
        data = frozen(name, Path(kept))
        own, theirs = ([[str(code)] for code in codes.tolist()] for codes in (data.answers, data.targets))
        recall = recall_at(data.test, own, data.train, theirs)
        print("\n".join([name, *said(recall)]), flush=True)
        results[name] = {"accuracy": measured(data), "recall": recall, "train": len(data.train)}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
