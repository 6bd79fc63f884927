"""Predictions of classification as tables, made from numpy: what metrics and reports are tested with."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

Tables = tuple[pa.Table, pa.Table]

THRESHOLD = 0.5


def answered(
    probabilities: np.ndarray, labels: tuple[str, ...], truth: list[list[str]], multi_label: bool = False
) -> Tables:
    """Predictions from probabilities [N, K], the likeliest class or all above THRESHOLD; and the truth."""
    columns = [pa.array(column, pa.float32()) for column in np.asarray(probabilities, np.float32).T]
    found = {"probabilities": pa.StructArray.from_arrays(columns, list(labels))}
    if multi_label:
        chosen = [[labels[n] for n in np.flatnonzero(row > THRESHOLD)] for row in probabilities]
        answers = {"labels": pa.array(chosen, pa.list_(pa.string()))}
    else:
        answers = {"label": pa.array([labels[n] for n in probabilities.argmax(axis=1)], pa.string())}
    rows = {
        "labels": pa.array(truth, pa.list_(pa.string())),
        "origin": pa.array([f"/home/me/x.csv:row {n}" for n in range(len(truth))], pa.string()),
    }
    return pa.table(answers | found), pa.table(rows)


def single(rows: int, classes: int, skill: float = 2.0, seed: int = 0) -> Tables:
    """One class a row, by a model of some skill."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, rows)
    logits = draw.normal(size=(rows, classes))
    logits[np.arange(rows), truth] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = tuple(f"class {n:03}" for n in range(classes))
    return answered(probabilities, labels, [[labels[n]] for n in truth])


def several(rows: int, classes: int, seed: int = 0) -> Tables:
    """Any set of classes a row."""
    draw = np.random.default_rng(seed)
    truth = draw.random((rows, classes)) < 0.3
    probabilities = 1 / (1 + np.exp(-(draw.normal(size=truth.shape) + 3 * truth - 1.5)))
    labels = tuple(f"tag {n}" for n in range(classes))
    named = [[labels[n] for n in np.flatnonzero(row)] for row in truth]
    return answered(probabilities, labels, named, multi_label=True)
