"""Learning curves of half of the rows, extrapolated, beside the truth at twice as many.

    python -m benchmarks.trust.need [ridge-banking77] [ridge-cifar10] [head-banking77] [head-cifar10]
        [digits-mlp] [--draws 20]

Of each dataset rows are drawn at random; one half is "today", all are "twice". The curve of today's rows
(1/8, 1/4, 1/2 and all, with 4, 3, 2 and 1 trainings) gives an interval for twice the rows, and the recipe
trained on all of them is the truth. Results: benchmarks/results/trust_need.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._runs import ROOT, machine, run_step
from benchmarks.trust._frozen import frozen, probabilities
from retrainer.need.extrapolate import Point, Scale, need_of
from retrainer.need.subsets import nested_parts

RESULTS = ROOT / "benchmarks" / "results" / "trust_need.json"
DRAWS = 20
_SCALE = Scale(1.0, True, True)
_SHARES, _TRAININGS = (1 / 8, 1 / 4, 1 / 2, 1.0), (4, 3, 2, 1)
# Rows, seed → accuracy on the test rows.
Recipe = Callable[[np.ndarray, int], float]


def head(name: str, kept: Path) -> tuple[Recipe, int]:
    data = frozen(name, kept)

    def accuracy(rows: np.ndarray, seed: int) -> float:  # noqa: ARG001 (a convex fit draws nothing)
        told = probabilities(data.train[rows], data.targets[rows], data.test, data.classes)
        return float((told.argmax(axis=1) == data.answers).mean())

    return accuracy, len(data.train)


def ridge(name: str) -> tuple[Recipe, int]:
    """The cheap head of every report, on its own features."""
    import pyarrow as pa

    from benchmarks.trust import _frozen
    from retrainer.formats.dataset import IMAGE
    from retrainer.tasks._class_baselines import maker
    from retrainer.tasks._class_curve import dense, scores_of_parts

    train, test = _frozen._banking() if name == "banking77" else _frozen._cifar()
    column, kind = ("text", pa.string()) if name == "banking77" else ("image", IMAGE)
    tables = [pa.table({column: pa.array([row[column] for row in rows], kind)}) for rows in (train, test)]
    labels = sorted({row["labels"][0] for row in train})
    codes = [np.array([labels.index(row["labels"][0]) for row in rows]) for rows in (train, test)]
    features = maker([column])(*tables, len(labels))
    before, after = dense(features.train), dense(features.test)
    targets = np.eye(len(labels), dtype=np.float32)[codes[0]]

    def accuracy(rows: np.ndarray, seed: int) -> float:  # noqa: ARG001 (solved in closed form)
        ((_, scores),) = scores_of_parts(before, targets, after, [np.sort(rows)])
        return float((scores.argmax(axis=1) == codes[1]).mean())

    return accuracy, len(train)


def digits(kept: Path) -> tuple[Recipe, int]:
    """The 784-128-64-10 network from scratch, by the recipe's own settings."""
    from components.ingest import ingest
    from components.preprocess import preprocess
    from retrainer.formats.dataset import Dataset, write_dataset
    from retrainer.metrics._classes import classes
    from retrainer.predict import Predictor
    from retrainer.resolve import resolve
    from retrainer.settings import Backbone, Compute, Task, Training
    from retrainer.training.compute import resolve_compute
    from retrainer.training.inputs import Inputs, Settings
    from retrainer.training.train import train_model

    into = kept / "digits"
    settled = resolve("digits-mlp", [], ROOT, into)
    for step in (ingest, preprocess):
        run_step(step, settled, into)
    data = Dataset(into / "dataset")
    train, test = data.split("train"), data.split("test")
    compute = resolve_compute(Compute.parse({"device": "cpu", "dtype": "float32", "threads": 1}, "compute"))
    task, backbone = (
        Task.parse(settled.settings["task"], "task"),
        Backbone.parse(settled.settings["backbone"], "backbone"),
    )

    def accuracy(rows: np.ndarray, seed: int) -> float:
        write_dataset(into / "part", {"train": train.take(rows), "validation": data.split("validation")})
        training = Training.parse({**settled.settings["training"], "seed": seed}, "training")
        train_model(Inputs(into / "part", Settings(task, backbone, training, compute)), into / "model")
        return float(classes(Predictor.load(into / "model").predict(test), test).correct.mean())

    return accuracy, len(train)


def lines(recipe: Recipe, rows: int, halves: tuple[int, ...], draws: int) -> Iterator[dict[str, Any]]:
    for half in halves:
        for draw in range(draws):
            yield _line(recipe, rows, half, draw)


def _line(recipe: Recipe, rows: int, half: int, draw: int) -> dict[str, Any]:
    chosen = np.random.default_rng((draw, half)).permutation(rows)[: 2 * half]
    today = np.sort(chosen[:half])
    sizes = [round(share * half) for share in _SHARES]
    points = []
    for place, trainings in enumerate(_TRAININGS):
        parts = [nested_parts(np.arange(half), sizes, each)[place] for each in range(trainings)]
        points.append(
            Point(sizes[place], tuple(recipe(today[part], each) for each, part in enumerate(parts)))
        )
    need = need_of(points, _SCALE)
    truth = recipe(np.sort(chosen), 100)
    line = {
        "rows": half,
        "draw": draw,
        "points": [[point.rows, round(point.value, 4)] for point in points],
        "values": [[round(value, 5) for value in point.values] for point in points],
        **{f"twice_{name}": need.at_twice[name] for name in ("value", "low", "high")},
        "truth": round(truth, 5),
        "covered": need.at_twice["low"] <= truth <= need.at_twice["high"],
        "kind": need.kind,
        "more_rows": need.more_rows,
        "next_value": need.next_value,
    }
    more = need.more_rows["value"]
    if more is not None and half + more <= rows:
        further = np.random.default_rng((draw, half)).permutation(rows)[: half + more]
        line["at_more_rows"] = round(recipe(np.sort(further), 101), 5)
    return line


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Coverage, width and error of the forecast, beside two that cost nothing: no change, and the last gain
    again by the law of the last two points (each doubling divides the error alike)."""
    truth = np.array([line["truth"] for line in found])
    now, before = (np.array([line["points"][at][1] for line in found]) for at in (-1, -2))
    ratio = (1 - now) ** 2 / np.maximum(1 - before, 1e-9)
    forecasts = {
        "law": np.array([line["twice_value"] for line in found]),
        "no change": now,
        "same ratio": 1 - ratio,
    }
    checked = [line for line in found if "at_more_rows" in line]
    steps = [
        (line["at_more_rows"] - line["points"][-1][1]) / max(1e-9, line["next_value"] - line["points"][-1][1])
        for line in checked
    ]
    return {
        "curves": len(found),
        "covered": round(float(np.mean([line["covered"] for line in found])), 3),
        "width": round(float(np.mean([line["twice_high"] - line["twice_low"] for line in found])), 4),
        "error": {name: round(float(np.abs(those - truth).mean()), 4) for name, those in forecasts.items()},
        "bias": round(float((forecasts["law"] - truth).mean()), 4),
        "kinds": {kind: sum(line["kind"] == kind for line in found) for kind in ("rows", "open", "flat")},
        "next_value_checked": len(checked),
        "median_share_of_the_step": round(float(np.median(steps)), 2) if steps else None,
    }


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    reader.add_argument("parts", nargs="*")
    reader.add_argument("--kept", type=Path, default=ROOT / "build" / "frozen", help="where features lie")
    reader.add_argument("--draws", type=int, default=DRAWS)
    arguments = reader.parse_args()
    of = arguments.kept
    work: dict[str, tuple[Callable[[], tuple[Recipe, int]], tuple[int, ...]]] = {
        "ridge-banking77": (lambda: ridge("banking77"), (600, 1250, 2500, 5000)),
        "ridge-cifar10": (lambda: ridge("cifar10"), (600, 2000, 6000)),
        "head-banking77": (lambda: head("banking77", of), (600, 1250, 2500, 5000)),
        "head-cifar10": (lambda: head("cifar10", of), (600, 2000, 6000)),
        "digits-mlp": (lambda: digits(of), (600, 1700)),
    }
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in arguments.parts or list(work):
        make, halves = work[name]
        recipe, rows = make()
        found = list(lines(recipe, rows, halves, arguments.draws))
        kept[name] = {"machine": machine(), "all": summary(found), "lines": found}
        kept[name] |= {
            str(half): summary([line for line in found if line["rows"] == half]) for half in halves
        }
        print(name, json.dumps(kept[name]["all"]), flush=True)
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
