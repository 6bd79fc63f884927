"""The membership-inference attack on rows that the model did not learn from: there it should find nothing.

What it finds nevertheless is that one sample of rows is easier than the other.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._runs import ROOT, run_step
from components.ingest import ingest
from components.preprocess import preprocess
from retrainer.evaluation.membership import _groups, _scores, compared
from retrainer.formats.dataset import Dataset
from retrainer.predict import Predictor
from retrainer.resolve import resolve
from retrainer.settings import Evaluation

DRAWS, FOLDS = 40, 5
_PENALTY = 1e-3


def other_digits(into: Path) -> dict[str, Any]:
    """`into` has the model that was trained on 30 digits of each class. Of the digits of the split `train`
    that were left over, 40 times as many are drawn: how often the interval holds 0.5."""
    model, learned = Predictor.load(into / "model"), Dataset(into / "dataset").split("train")
    test = Dataset(into / "dataset").split("test")
    with tempfile.TemporaryDirectory() as folder:
        settled = resolve("digits-mlp", ["split.validation=0"], ROOT, Path(folder))
        for step in (ingest, preprocess):
            run_step(step, settled, Path(folder))
        everything = Dataset(Path(folder) / "dataset").split("train")
    known = set(learned["origin"].to_pylist())
    others = everything.filter(pa.array([one not in known for one in everything["origin"].to_pylist()]))
    scores, of_test = (_scores("log_loss", model.predict(rows), rows) for rows in (others, test))
    found = []
    for draw in range(DRAWS):
        chosen = np.random.default_rng(draw).choice(len(others), len(learned), replace=False)
        groups = (np.arange(len(chosen)), np.arange(len(test)))
        found.append(compared(scores[chosen], of_test, groups, _settings(draw)))
    return _summary(found) | {"rows": len(learned), "test_rows": len(test), "rows_to_draw_from": len(others)}


def other_folds(into: Path) -> dict[str, Any]:
    """A head for each fifth of the training rows, fitted to the other four, on the features of the frozen
    body: its losses on that fifth beside those on the test rows."""
    import torch

    from benchmarks.trust._frozen import pretrained
    from benchmarks.trust._out_of_fold import fit

    data = Dataset(into / "dataset")
    train, test = data.split("train"), data.split("test")
    labels = sorted({row[0] for row in train["labels"].to_pylist()})
    targets, answers = (
        np.array([labels.index(row[0]) for row in rows["labels"].to_pylist()]) for rows in (train, test)
    )
    body = pretrained(images=False)
    before, after = (body.features(rows.select(["text"])) for rows in (train, test))
    groups, of_test, found = _groups(train), _groups(test), []
    place = np.random.default_rng(0).permutation(groups.max() + 1)[groups] % FOLDS
    for fold in range(FOLDS):
        held = place == fold
        mean, std = before[~held].mean(axis=0), before[~held].std(axis=0) + 1e-2
        weights, bias = fit(
            torch.from_numpy((before[~held] - mean) / std),
            torch.from_numpy(targets[~held]),
            len(labels),
            _PENALTY,
        )
        right = [
            torch.log_softmax(torch.from_numpy((features - mean) / std) @ weights + bias, dim=1).numpy()[
                np.arange(len(codes)), codes
            ]
            for features, codes in ((before[held], targets[held]), (after, answers))
        ]
        _, of_fold = np.unique(groups[held], return_inverse=True)
        found.append(compared(right[0], right[1], (of_fold, of_test), _settings(fold)))
    return _summary(found) | {"rows": len(train) // FOLDS, "test_rows": len(test)}


def _settings(seed: int) -> Evaluation:
    return Evaluation.parse({"resamples": 400, "seed": seed}, "evaluation")


def _summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    within = [one["low"] <= 0.5 <= one["high"] for one in found]
    return {
        "attacks": len(found),
        "mean_auc": round(float(np.mean([one["auc"] for one in found])), 4),
        "least_auc": min(one["auc"] for one in found),
        "largest_auc": max(one["auc"] for one in found),
        "interval_holds_one_half": sum(within),
        "noteworthy": sum(one["noteworthy"] for one in found),
    }
