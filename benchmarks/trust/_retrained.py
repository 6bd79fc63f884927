"""The same small network trained again and again, only the seed changed: 784-128-64-10 on real MNIST digits.

Half of the 5,000 digits are held out: some rows judge, the rest are a holdout that no policy sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._runs import ROOT, run_step
from benchmarks.trust._policies import POLICIES, promoted
from benchmarks.trust._simulated import Row, follow
from components.ingest import ingest
from components.preprocess import preprocess
from retrainer.formats.dataset import Dataset
from retrainer.metrics._classes import classes
from retrainer.predict import Predictor
from retrainer.resolve import Resolved, resolve
from retrainer.settings import Backbone, Compute, Task, Training
from retrainer.training.compute import resolve_compute
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import train_model

if TYPE_CHECKING:
    import pyarrow as pa

MODELS = 60
TEST_ROWS = 1000
# Trained briefly, seeds differ for good; trained longer, less so.
EPOCHS = (5, 20)


def answered(into: Path, epochs: int, models: int = MODELS) -> np.ndarray:
    """bool [models, held-out rows]: what each seed's model has right. The rows lie in `into`/dataset."""
    settled = resolve("digits-mlp", ["split.test=0.5", f"training.epochs={epochs}"], ROOT, into)
    for step in (ingest, preprocess):
        run_step(step, settled, into)
    held_out = Dataset(into / "dataset").split("test")
    return np.stack([_trained(into, settled, seed, held_out) for seed in range(models)])


def _trained(into: Path, settled: Resolved, seed: int, held_out: pa.Table) -> np.ndarray:
    task, backbone = Task.parse(settled.settings["task"], "task"), settled.settings["backbone"]
    training = Training.parse({**settled.settings["training"], "seed": seed}, "training")
    compute = resolve_compute(Compute.parse({"device": "cpu", "dtype": "float32", "threads": 1}, "compute"))
    model = into / "models" / str(seed)
    family = Backbone.parse(backbone, "backbone")
    train_model(Inputs(into / "dataset", Settings(task, family, training, compute)), model)
    return classes(Predictor.load(model, "cpu").predict(held_out), held_out).correct


def pairs(right: np.ndarray, seed: int, redraws: int = 2000) -> list[Row]:
    """Every ordered pair of models, once as candidate and champion, on the test rows.

    The pairs share models, so the interval draws models (with replacement), not pairs. Beside it the same
    pairs made equal, see `exchanged`.
    """
    test = right[:, :TEST_ROWS]
    wins = (test[:, None] & ~test[None]).sum(axis=2)  # [candidate, champion]
    accuracy = np.broadcast_to(test.mean(axis=1), wins.shape)
    apart: np.ndarray = ~np.eye(len(test), dtype=bool)
    draw = np.random.default_rng(seed)
    drawn = draw.integers(0, len(test), size=(redraws, len(test)))
    holdout = right[:, TEST_ROWS:].mean(axis=1)
    no_better = holdout[:, None] <= holdout[None]
    found: list[Row] = []
    for policy in POLICIES:
        takes = promoted(policy, TEST_ROWS, wins, wins.T, accuracy)
        rates = [takes[np.ix_(one, one)][apart[np.ix_(one, one)]].mean() for one in drawn]
        low, high = np.quantile(rates, [0.025, 0.975])
        row: Row = {"policy": policy, "models": len(test), "pairs": int(apart.sum()), "test rows": TEST_ROWS}
        row |= {"promoted": float(takes[apart].mean()), "low": float(low), "high": float(high)}
        row["promoted though no better on the holdout"] = float((takes & no_better)[apart].mean())
        row["promoted of equal ones"] = exchanged(policy, test, seed)
        found.append(row)
    return found


def exchanged(policy: str, right: np.ndarray, seed: int, times: int = 20) -> float:
    """The share promoted of two that are equal by construction, and as real as the models [models, rows].

    Of each pair of models, a coin thrown for every row says which one answers for the candidate; the other
    answers for the champion. So both are right equally often, whatever the two seeds are worth.
    """
    rows = right.shape[1]
    one, other = np.triu_indices(len(right), k=1)
    apart = (right[one] != right[other]).sum(axis=1)
    both = (right[one] & right[other]).sum(axis=1)
    won = np.random.default_rng(seed).binomial(apart, 0.5, size=(times, len(apart)))
    return float(promoted(policy, rows, won, apart - won, (both + apart - won) / rows).mean())


def spread(right: np.ndarray) -> dict[str, float]:
    """How far the seeds lie apart: accuracy on the test rows and on the holdout, rows right for one alone."""
    test, holdout = right[:, :TEST_ROWS], right[:, TEST_ROWS:]
    apart: np.ndarray = ~np.eye(len(test), dtype=bool)
    discordant = (test[:, None] != test[None]).mean(axis=2)[apart].mean()
    both = np.corrcoef(test.mean(axis=1), holdout.mean(axis=1))[0, 1]
    return {
        "test accuracy": float(test.mean()),
        "± sd between seeds": float(test.mean(axis=1).std(ddof=1)),
        "holdout rows": float(holdout.shape[1]),
        "holdout accuracy": float(holdout.mean()),
        "± sd between seeds, holdout": float(holdout.mean(axis=1).std(ddof=1)),
        "correlation of the two": float(both),
        "discordant share": float(discordant),
    }


def year(right: np.ndarray, years: int, seed: int) -> list[Row]:
    """Thirteen of the models in random order: a champion and twelve monthly candidates, all judged alike."""
    draw = np.random.default_rng(seed)
    order = np.stack([draw.permutation(len(right))[:13] for _ in range(years)])
    holdout = right[:, TEST_ROWS:].mean(axis=1)
    shown = right[:, :TEST_ROWS].mean(axis=1)
    found: list[Row] = []
    for policy in POLICIES:
        parts = [follow(policy, right[some, :TEST_ROWS]) for some in np.array_split(order, years // 100)]
        moved = np.concatenate([part[0] for part in parts])
        last = order[np.arange(years), np.concatenate([part[1] for part in parts])]
        found.append(
            {
                "policy": policy,
                "years": years,
                "promotions a year": float(moved.mean()),
                "years with any": float((moved > 0).mean()),
                "holdout accuracy, last − first, points": 100
                * float((holdout[last] - holdout[order[:, 0]]).mean()),
                "test accuracy − holdout's, of the last, points": 100 * float((shown - holdout)[last].mean()),
            }
        )
    return found
