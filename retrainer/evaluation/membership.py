"""A membership-inference attack on the model: can its answers tell which rows it was trained on?

Of two rows the one that the model has the smaller loss on is guessed to be a training row, with one threshold
for all rows (Yeom et al. 2018, arXiv:1709.01604). AUC 0.5: no better than a coin; 1: every row is told.
Beside it the share of training rows that are told while at most one in a hundred other rows is taken for one,
as Carlini et al. (2022, arXiv:2112.03570) ask for. Stronger attacks train many models beside this one: a
small figure proves nothing, a great one is a fact.

Legend: M training rows of the sample, N test rows, G groups, D draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from retrainer import metrics
from retrainer.formats.columns import class_names, picked
from retrainer.settings import Evaluation

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

# Metrics that say something of a single row, and whose answers cost no search.
_SCORES = ("log_loss", "mean_absolute_error", "perplexity")
_MOST_ROWS = 1000
# With fewer rows an AUC says nothing, and one in a hundred is none of them.
_LEAST_ROWS, _LEAST_FOR_SHARE = 20, 100
_FALSE_ALARMS = 0.01
# Below it, an attacker is wrong almost as often as right.
_NOTEWORTHY = 0.6

Figures = dict[str, Any]


def membership(judged: Judged) -> Figures:
    """`membership` of metrics.json (formats/report.py); figures are null where `note` says why.

    Training rows are a sample, as many as there are test rows and at most 1,000. Groups are drawn as a
    whole for the interval.
    """
    score = next((name for name in _SCORES if name in judged.predictor.task.metrics), None)
    if score is None:
        return _nothing("this task has no figure of a single row")
    test, predictions = _of_known_classes(judged)
    if min(len(test), len(judged.train)) < _LEAST_ROWS:
        return _nothing("there are too few rows")
    chosen = _sample(len(judged.train), min(_MOST_ROWS, len(test)), judged.evaluation.seed)
    train = picked(judged.train, chosen)
    features = None if judged.train_features is None else judged.train_features[chosen]
    found = compared(
        _scores(score, _answers(judged, train, features), train),
        _scores(score, predictions, test),
        (_groups(train), _groups(test)),
        judged.evaluation,
    )
    return {"score": score, "train_rows": len(train), "test_rows": len(test), **found, "note": ""}


def _answers(judged: Judged, train: pa.Table, features: np.ndarray | None) -> pa.Table:
    """The score's own columns alone, where the task has such: a search for answers would take longer."""
    predictor = judged.predictor
    return predictor.scored(train) if hasattr(predictor.task, "score") else predictor.predict(train, features)


def _nothing(why: str) -> Figures:
    figures = dict.fromkeys(("score", "auc", "low", "high", "found_at_1_percent"))
    return {**figures, "train_rows": 0, "test_rows": 0, "noteworthy": False, "note": why}


def _of_known_classes(judged: Judged) -> tuple[pa.Table, pa.Table]:
    """Test rows of the model's classes: the loss of another says nothing about having been seen."""
    names = class_names(judged.test, judged.predictor.task.target_columns)
    if names is None:
        return judged.test, judged.predictions
    known = set(judged.predictor.labels)
    kept = np.array([set(row) <= known for row in names], bool)
    return judged.test.filter(kept), judged.predictions.filter(kept)


def _sample(known: int, rows: int, seed: int) -> np.ndarray:
    """int64: numbers of at most so many of the known rows."""
    if known <= rows:
        return np.arange(known)
    return np.sort(np.random.default_rng(seed).choice(known, rows, replace=False))


def _scores(name: str, predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [rows]: greater, the better the model answers the row."""
    metric = metrics.load(name, "the attack's score")
    values = np.asarray(metric.value(metric.statistics(predictions, truth)), np.float64)
    return values if metric.HIGHER_IS_BETTER else -values


def _groups(table: pa.Table) -> np.ndarray:
    """int64 [rows]: the number of the row's group; a row without one is its own."""
    if "group" not in table.column_names:
        return np.arange(len(table))
    names = table["group"].to_pylist()
    keys = [(0, row) if name is None else (1, name) for row, name in enumerate(names)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int64)


def compared(
    train: np.ndarray, test: np.ndarray, groups: tuple[np.ndarray, np.ndarray], settings: Evaluation
) -> Figures:
    """Scores [M] and [N], and the groups of both → AUC with its interval, and the share found."""
    values, places = np.unique(np.concatenate([train, test]), return_inverse=True)
    of_train, of_test = places[: len(train)], places[len(train) :]

    def area(train_weights: np.ndarray | None, test_weights: np.ndarray | None) -> float:
        return _area(
            np.bincount(of_train, train_weights, len(values)),
            np.bincount(of_test, test_weights, len(values)),
        )

    draws = np.random.default_rng(settings.seed)
    drawn = [area(*(_drawn(one, draws) for one in groups)) for _ in range(settings.resamples)]
    tail, auc = (1 - settings.confidence) / 2, area(None, None)
    low, high = (float(np.quantile(drawn, at)) for at in (tail, 1 - tail))
    return {
        "auc": round(auc, 6),
        "low": round(min(auc, low), 6),
        "high": round(max(auc, high), 6),
        "found_at_1_percent": _found(train, test),
        "noteworthy": low >= _NOTEWORTHY,
    }


def _area(train: np.ndarray, test: np.ndarray) -> float:
    """Of rows by their value, rising: the chance that a training row's is the greater, ties counting half."""
    below = np.cumsum(test) - test
    return float((train * (below + test / 2)).sum() / (train.sum() * test.sum()))


def _drawn(groups: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """float64 [rows]: how often each row's group is drawn, as many groups with replacement as there are."""
    count = int(groups.max()) + 1
    times = np.bincount(draws.integers(0, count, count), minlength=count)
    return times[groups].astype(np.float64)


def _found(train: np.ndarray, test: np.ndarray) -> float | None:
    if len(test) < _LEAST_FOR_SHARE:
        return None
    threshold = np.sort(test)[::-1][int(_FALSE_ALARMS * len(test))]
    return round(float((train > threshold).mean()), 6)
