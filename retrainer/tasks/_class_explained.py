"""Which test rows of a classifier are explained, and why what rather than what; the rows nearest to mistakes.

Legend: N test rows, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from retrainer.metrics._classes import Classes, classes
from retrainer.tasks._class_baselines import majority
from retrainer.tasks._class_examples import surest_mistakes
from retrainer.tasks._embedded import Embedded
from retrainer.tasks._explained import NO_ROWS, Attributions, Chosen, attributions, sample_of
from retrainer.tasks._nearest_rows import nearest_of, supported

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged


def explained(judged: Judged, found: Classes) -> Attributions:
    """Of a sample of the right rows, and of every mistake that the report shows."""
    if not judged.evaluation.explain:
        return attributions(judged, NO_ROWS)
    right = sample_of(np.flatnonzero(found.correct), judged.evaluation.explain)
    wrong = surest_mistakes(found)
    rows = np.concatenate([right, wrong])
    contrasts = judged.predictor.task.contrasts(judged.predictions.take(pa.array(rows)))
    known = len(judged.predictor.labels)
    contrasts[len(right) :] = _rather_than_truth(found, wrong, contrasts[len(right) :], known)
    trivial = classes(
        majority(judged.train, len(judged.test), found.multi_label).predictions, judged.test
    ).correct
    better, worse = int((found.correct & ~trivial).sum()), int((trivial & ~found.correct).sum())
    return attributions(judged, Chosen(rows, contrasts, len(right), better, worse))


def _rather_than_truth(found: Classes, rows: np.ndarray, contrasts: np.ndarray, known: int) -> np.ndarray:
    """Of mistakes: why the answer rather than the true class, where the model knows that one; multi-label:
    the class whose decision is wrong and the surest."""
    if not len(rows):
        return contrasts
    targets, decided = found.targets[rows, :known], found.decided[rows, :known]
    if found.multi_label:
        missed = np.where(targets, 1 - found.probabilities[rows, :known], found.probabilities[rows, :known])
        wrong = np.where(targets != decided, missed, -1.0)
        return np.stack([wrong.argmax(axis=1), np.full(len(rows), -1)], axis=1).astype(np.int64)
    truth = np.where(targets.any(axis=1), targets.argmax(axis=1), contrasts[:, 1])
    return np.stack([contrasts[:, 0], truth], axis=1)


def nearest_to_mistakes(judged: Judged, found: Classes, embedded: Embedded) -> list[dict[str, Any]]:
    """Of every mistake that the report shows; none without attributions."""
    if not judged.evaluation.explain or "features" not in judged.predictor.task.abilities:
        return []
    near = nearest_of(embedded, surest_mistakes(found))
    return [supported(one, judged.train, *_labels(found, one["row"])) for one in near]


def _labels(found: Classes, row: int) -> tuple[list[str], list[str]]:
    """What is true of a row, and what was answered."""
    truth, answer = (
        [name for name, has in zip(found.names, matrix[row], strict=True) if has]
        for matrix in (found.targets, found.decided)
    )
    return truth, answer
