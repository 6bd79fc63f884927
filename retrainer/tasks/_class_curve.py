"""A cheap linear head on nested parts of the training rows: what evaluation draws a learning curve from.

Ridge regression on the features of the cheap baseline, solved in closed form: the sums over a part's rows are
those of the part before it and of the rows between them.

Legend: N rows, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.tasks._class_baselines import NoBaseline, label_rows, maker
from retrainer.tasks._classes import Classification
from retrainer.tasks._protocol import CheapCurve

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_FEATURES = 1024
# Weight of the squared coefficients, in units of the features' mean sum of squares in so many rows; it falls
# beside that sum with the root of the rows, as the least error asks for.
_PENALTY, _PENALTY_ROWS = 0.1, 1000
# Turns scores, about 1 for the row's class and 0 for others, into probabilities: only their order counts.
_SHARPNESS = 10.0
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def cheap_curve(
    train: pa.Table, test: pa.Table, multi_label: bool, draws: Sequence[Sequence[np.ndarray]]
) -> CheapCurve:
    """`draws`: of each draw the nested parts, as rising row numbers of `train`."""
    rows = label_rows(train)
    labels = tuple(sorted({name for row in rows for name in row}))
    if len(labels) < 2:
        return CheapCurve("", (), "the training rows have one class")
    try:
        features = maker(train.column_names)(train, test, len(labels))
    except NoBaseline as error:
        return CheapCurve("", (), str(error))
    before, after = (dense(one) for one in (features.train, features.test))
    targets: np.ndarray = np.zeros((len(rows), len(labels)), np.float32)
    place = {name: index for index, name in enumerate(labels)}
    for row, names in enumerate(rows):
        targets[row, [place[name] for name in names]] = 1
    task = Classification(labels, multi_label)
    answers = [
        (count, task.predictions(_probabilities(scores, multi_label)))
        for parts in draws
        for count, scores in scores_of_parts(before, targets, after, parts)
    ]
    title = features.title.replace("logistic regression", "ridge regression")
    return CheapCurve(title, tuple(answers))


def dense(features: Any) -> np.ndarray:
    """float32 [N, F]; sparse features are added or subtracted in the dimension of their hash."""
    if isinstance(features, np.ndarray):
        return features.astype(np.float32)
    cells = features.tocoo()
    mixed = (cells.col.astype(np.uint64) + np.uint64(1)) * _FACTOR
    places = ((mixed >> np.uint64(32)) % np.uint64(_MOST_FEATURES)).astype(np.int64)
    signs = np.where(mixed >> np.uint64(63), 1.0, -1.0)
    at = cells.row.astype(np.int64) * _MOST_FEATURES + places
    sums = np.bincount(at, cells.data * signs, features.shape[0] * _MOST_FEATURES)
    return sums.reshape(-1, _MOST_FEATURES).astype(np.float32)


def scores_of_parts(
    train: np.ndarray, targets: np.ndarray, test: np.ndarray, parts: Sequence[np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    """(rows of the part, float32 [N, K] of the test rows), part by part."""
    width, classes = train.shape[1], targets.shape[1]
    inner: np.ndarray = np.zeros((width, width), np.float32)
    outer: np.ndarray = np.zeros((width, classes), np.float32)
    known: np.ndarray = np.zeros(0, np.int64)
    for part in parts:
        new = np.setdiff1d(part, known, assume_unique=True)
        known = part
        inner += train[new].T @ train[new]
        outer += train[new].T @ targets[new]
        count, mean, share = len(part), train[part].mean(axis=0), targets[part].mean(axis=0)
        centred = inner - count * np.outer(mean, mean)
        penalty = _PENALTY * max(float(np.trace(centred)) / width, 1e-6) * (_PENALTY_ROWS / count) ** 0.5
        centred.flat[:: width + 1] += penalty
        weights = np.linalg.solve(centred, outer - count * np.outer(mean, share))
        yield count, (test - mean) @ weights + share


def _probabilities(scores: np.ndarray, multi_label: bool) -> np.ndarray:
    if multi_label:
        return scores.clip(0, 1)
    raised = np.exp(_SHARPNESS * (scores - scores.max(axis=1, keepdims=True)))
    shares: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return shares
