"""What a report says of attributions: nearest rows, luck of its few rows, and what it costs."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._runs import ROOT, run_step
from components.evaluate import evaluate
from components.ingest import ingest
from components.preprocess import preprocess
from components.train import train
from retrainer.attribution.explain import Explainer, values_of
from retrainer.attribution.randomised import MOST_CORRELATION, correlations, randomise
from retrainer.formats.dataset import Dataset
from retrainer.predict import Predictor
from retrainer.resolve import resolve
from retrainer.tasks._explained import _ROUGH_STEPS, _TESTED
from retrainer.tasks._neighbours import nearest_rows

_REPEATS = 5  # of an evaluation that is timed
_ROWS, _DRAWS = 120, 200_000  # of `chance`


def trained(into: Path, recipe: str | None, overrides: list[str]) -> tuple[Predictor, Dataset]:
    if not (into / "model").exists():
        into.mkdir(parents=True, exist_ok=True)
        settled = resolve(recipe, overrides, ROOT, into)
        for step in (ingest, preprocess, train):
            run_step(step, settled, into)
    return Predictor.load(into / "model"), Dataset(into / "dataset")


def flipped(into: Path, share: float = 0.05, seed: int = 0) -> dict[str, Any]:
    """Of test rows that get another label, and of the model's own mistakes: whom the nearest rows support."""
    predictor, data = trained(into / "sentiment", None, [])
    train_rows, test = data.split("train"), data.split("test")
    truth = np.array([row[0] for row in test["labels"].to_pylist()])
    answer = np.array(predictor.predict(test)["label"].to_pylist())
    draw = np.random.default_rng(seed)
    chosen = draw.choice(len(truth), round(share * len(truth)), replace=False)
    given = truth.copy()
    for row in chosen.tolist():
        given[row] = draw.choice([name for name in predictor.labels if name != truth[row]])
    _, near = nearest_rows(predictor.features(test), predictor.features(train_rows), 3)
    labels = np.array([row[0] for row in train_rows["labels"].to_pylist()])[near]
    wrong = answer != given
    planted = np.isin(np.arange(len(truth)), chosen)
    return {
        name: {
            "mistakes": int(rows.sum()),
            "all three have the answer": int((labels[rows] == answer[rows, None]).all(1).sum()),
            "all three have the given label": int((labels[rows] == given[rows, None]).all(1).sum()),
        }
        for name, rows in (("planted", wrong & planted), ("own", wrong & ~planted))
    }


def chance(into: Path) -> dict[str, Any]:
    """Of the default recipe, under random weights: the rows' correlations as the report computes them, and
    how often the mean of a few rows reaches the limit although the method passes on all of them."""
    predictor, data = trained(into / "sentiment", None, [])
    rows = data.split("test").slice(0, _ROWS)
    contrasts, explainer = predictor.task.contrasts(predictor.predict(rows)), Explainer.of(predictor)
    rough = replace(explainer, steps=_ROUGH_STEPS).with_network(randomise(predictor.network, ""))
    sizes = [[np.abs(one) for one in values_of(each.explain(rows, contrasts))] for each in (explainer, rough)]
    found = correlations(*sizes)
    draw = np.random.default_rng(0)
    failed = {
        str(few): float((draw.choice(found, (_DRAWS, few)).mean(axis=1) >= MOST_CORRELATION).mean())
        for few in (4, 6, _TESTED)
    }
    return {
        "rows": len(found),
        "parts": round(float(np.mean([len(one) for one in sizes[0] if len(one) >= 4])), 1),
        "mean": round(float(found.mean()), 3),
        "sd": round(float(found.std()), 3),
        "fails_by_chance": failed,
    }


def seconds(into: Path) -> dict[str, Any]:
    """Median seconds of `evaluate`, by the clock and of CPUs, and bytes of the report, with the default
    number of explained rows and with none, in turn."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{into}/mlflow.db"
    found = {}
    for name, recipe in (("sentiment", None), ("digits", "digits-mlp")):
        trained(into / name, recipe, [])
        taken: dict[str, list[tuple[float, float]]] = {"explained": [], "not explained": []}
        size = {}
        for _ in range(_REPEATS + 1):
            for title, changes in (("explained", []), ("not explained", ["evaluation.explain=0"])):
                settled = resolve(recipe, changes, ROOT, into / name)
                before = time.process_time()
                clock = run_step(evaluate, settled, into / name)
                taken[title].append((clock, time.process_time() - before))
                size[title] = (into / name / "report" / "report.html").stat().st_size
        # The first evaluation of a process imports what all later ones have.
        found[name] = {
            title: {
                "seconds": round(statistics.median(clock for clock, _ in each[1:]), 2),
                "cpu_seconds": round(statistics.median(cpu for _, cpu in each[1:]), 2),
                "bytes": size[title],
            }
            for title, each in taken.items()
        }
    return found
