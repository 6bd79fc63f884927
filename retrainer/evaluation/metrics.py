"""The figures of one model on the test rows: a stable part of the schema of `metrics.json`.

    metrics     {name: {"value", "low", "high", "n"}}; low and high bound the confidence interval, n are rows
                single label:  accuracy, macro_f1, log_loss, calibration_error
                multi-label:   subset_accuracy, micro_f1, macro_f1, log_loss, calibration_error
    per_class   [{"label", "precision", "recall", "f1", "support", "predicted"}]; null where a figure does
                not exist: no row has the label (recall, f1), or none was given it (precision)
    confusion   {"labels": [...], "cells": [[true index, decided index, rows], ...]}, cells above 0 only;
                null in multi-label

macro_f1 averages the classes that have test rows. log_loss is the mean of -ln(probability of the truth), in
multi-label of every (row, label) pair. calibration_error is the expected calibration error: the gap between
confidence and its being right, in 15 bins of equal width (Guo et al., ICML 2017); in multi-label between
every label's probability and its presence.

Legend: N rows, K labels, B blocks of rows for the bootstrap, D draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retrainer.evaluation.answers import Answers
from retrainer.evaluation.intervals import Figure, blocks_of, bootstrap, wilson
from retrainer.settings import Evaluation

BINS = 15
_TINY = 1e-15

Figures = dict[str, Any]


def measure(answers: Answers, settings: Evaluation) -> Figures:
    """Metrics with intervals, per-class figures and confusion counts."""
    confusion = None
    if not answers.multi_label:
        confusion = {"labels": list(answers.labels), "cells": _cells(answers)}
    return {"metrics": headline(answers, settings), "per_class": per_class(answers), "confusion": confusion}


def headline(answers: Answers, settings: Evaluation) -> dict[str, Figure]:
    """The metrics of the module's docstring. The share of right rows comes first."""
    share = wilson(int(answers.correct.sum()), answers.rows, settings.confidence)
    labels = len(answers.labels)
    blocks = blocks_of(answers.rows, settings.seed)
    parts = [class_counts(answers, blocks), log_losses(answers, blocks), _gaps(answers, blocks)]

    def statistics(totals: np.ndarray) -> dict[str, np.ndarray]:
        right, given, support = (totals[:, labels * i : labels * (i + 1)] for i in range(3))
        rest = totals[:, 3 * labels :]
        pairs: np.ndarray = rest[:, 0] * (labels if answers.multi_label else 1)
        figures = {"micro_f1": _ratio(2 * right.sum(axis=1), (given + support).sum(axis=1))}
        figures["macro_f1"] = _mean_where(_ratio(2 * right, given + support), support > 0)
        figures["log_loss"] = rest[:, 1] / pairs
        figures["calibration_error"] = np.abs(rest[:, 2:]).sum(axis=1) / pairs
        return figures

    sums = np.concatenate(parts, axis=1)
    figures = bootstrap(sums, statistics, answers.rows, settings, ("log_loss",))
    if answers.multi_label:
        return {"subset_accuracy": share, **figures}
    # With one label a row, micro-F1 is the accuracy again.
    return {"accuracy": share, **{name: value for name, value in figures.items() if name != "micro_f1"}}


def per_class(answers: Answers) -> list[dict[str, Any]]:
    right, given, support = np.split(class_counts(answers, np.zeros(answers.rows, dtype=np.int64))[0], 3)
    table = []
    for index, label in enumerate(answers.labels):
        hits, predicted, rows = int(right[index]), int(given[index]), int(support[index])
        table.append(
            {
                "label": label,
                "precision": _share(hits, predicted),
                "recall": _share(hits, rows),
                "f1": _share(2 * hits, rows + predicted) if rows else None,
                "support": rows,
                "predicted": predicted,
            }
        )
    return table


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _cells(answers: Answers) -> list[list[int]]:
    labels = len(answers.labels)
    pairs, counts = np.unique(answers.targets * labels + answers.decided, return_counts=True)
    return [[int(p) // labels, int(p) % labels, int(n)] for p, n in zip(pairs, counts, strict=True)]


def class_counts(answers: Answers, blocks: np.ndarray) -> np.ndarray:
    """Rows right, given and having each label, per block: [B, 3K]."""
    labels = len(answers.labels)
    if answers.multi_label:
        where = (answers.decided & answers.targets, answers.decided, answers.targets)
        return np.concatenate([_per_block(one.astype(np.float64), blocks) for one in where], axis=1)
    count = int(blocks.max()) + 1

    def tally(chosen: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        return np.bincount(blocks * labels + chosen, weights, minlength=count * labels).reshape(count, labels)

    right = tally(answers.targets, answers.correct)
    return np.concatenate([right, tally(answers.decided, None), tally(answers.targets, None)], axis=1)


def log_losses(answers: Answers, blocks: np.ndarray) -> np.ndarray:
    """Rows and their summed -ln(probability of the truth), per block: [B, 2]."""
    if answers.multi_label:
        truth = np.where(answers.targets, answers.probabilities, 1 - answers.probabilities)
        loss = -np.log(np.maximum(truth, _TINY)).sum(axis=1)
    else:
        loss = -np.log(np.maximum(answers.probabilities[np.arange(answers.rows), answers.targets], _TINY))
    return _per_block(np.stack([np.ones(answers.rows), loss], axis=1), blocks)


def _gaps(answers: Answers, blocks: np.ndarray) -> np.ndarray:
    """Confidence minus being right, summed by block and bin of confidence: [B, BINS]."""
    confidence, right = confidences(answers.probabilities, answers)
    if answers.multi_label:
        blocks = np.repeat(blocks, len(answers.labels))
    places = blocks * BINS + bins_of(confidence)
    count = int(blocks.max()) + 1
    return np.bincount(places, confidence - right, minlength=count * BINS).reshape(count, BINS)


def confidences(probabilities: np.ndarray, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """float64 and bool [N], in multi-label [N * K]: how sure each answer was, and whether it was right."""
    if answers.multi_label:
        return probabilities.ravel(), answers.targets.ravel()
    return probabilities.max(axis=1), answers.correct


def bins_of(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _per_block(values: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Sums rows [N, F] into their blocks: [B, F]."""
    count = int(blocks.max()) + 1
    if count == len(values):
        return values
    order = np.argsort(blocks, kind="stable")
    starts = np.searchsorted(blocks[order], np.arange(count))
    return np.add.reduceat(values[order], starts, axis=0)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0)


def _mean_where(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean over the chosen columns of each row; 0 where none is."""
    return _ratio((values * chosen).sum(axis=1), chosen.sum(axis=1))
