"""What little effort gives on the same rows: the commonest class, and a linear model on cheap features.

Both are fitted on the training rows and on nothing else. A trained network that is not better than these
has learned nothing that was worth its cost, and the report says so.

Legend: N rows, K classes, F features.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.formats.columns import picked
from retrainer.tasks._class_features import Features, pixel_features, sound_features, text_features
from retrainer.tasks._classes import THRESHOLD, Classification
from retrainer.tasks._protocol import Baseline, Baselines
from retrainer.texts import shortened

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.settings import Evaluation

_MOST_STEPS = 1000
_TITLE_CHARACTERS = 40
# A fit's cost is about rows × features × classes a step: what 2 cores do in some ten seconds.
_MOST_WORK = 2e8
_FEWEST_ROWS = 5_000
_MOST_ROWS = 100_000


class NoBaseline(Exception):
    """There is no cheap baseline for these rows; the message says why."""


def baselines(train: pa.Table, test: pa.Table, multi_label: bool, settings: Evaluation) -> Baselines:
    """The commonest class, and the linear model where there is one."""
    found = [majority(train, len(test), multi_label)]
    if not settings.baseline:
        return Baselines(tuple(found), "evaluation.baseline is false")
    try:
        found.append(linear(train, test, multi_label, settings.seed))
    except NoBaseline as error:
        return Baselines(tuple(found), str(error))
    return Baselines(tuple(found))


def label_rows(table: pa.Table) -> list[list[str]]:
    """The class names of each row."""
    return [list(row or ()) for row in table["labels"].to_pylist()]


def majority(train: pa.Table, rows: int, multi_label: bool) -> Baseline:
    """Always the commonest class of the training rows (multi-label: their commonest set of classes).

    Of equally common ones, the first by name. Single-label probabilities are the classes' shares.
    """
    had = label_rows(train)
    labels = tuple(sorted({name for row in had for name in row}))
    counts = Counter(tuple(sorted(row)) for row in had)
    if multi_label:
        commonest = min(counts, key=lambda names: (-counts[names], names))
        answer = np.array([float(label in commonest) for label in labels])
        shown = "{" + ", ".join(commonest) + "}"
    else:
        answer = np.array([counts[(label,)] / len(had) for label in labels])
        shown = labels[int(answer.argmax())]
    everywhere = _predictions(np.tile(answer, (rows, 1)), labels, multi_label)
    return Baseline("majority", f"always {shortened(shown, _TITLE_CHARACTERS)!r}", everywhere, len(had))


def _predictions(probabilities: np.ndarray, labels: tuple[str, ...], multi_label: bool) -> pa.Table:
    return Classification(labels, multi_label).predictions(probabilities.astype(np.float32))


def linear(train: pa.Table, test: pa.Table, multi_label: bool, seed: int) -> Baseline:
    """Logistic regression on TF-IDF of words, on small standardised pixels, or on mean log-mel spectra.

    Fitted on a random part of the training rows where all would take minutes; `note` then says so.
    Raises NoBaseline when the rows have no text, image or sound, or give nothing to fit.
    """
    rows = label_rows(train)
    labels = tuple(sorted({name for row in rows for name in row}))
    if len(labels) < 2:
        raise NoBaseline("the training rows have one class")
    make = maker(train.column_names)
    kept = _kept(len(train), len(labels), make is not text_features, seed)
    features = make(picked(train, kept), test, len(labels))
    fit = _several if multi_label else _one
    probabilities, converged = fit([rows[int(i)] for i in kept], labels, features)
    notes = [features.note] if features.note else []
    if len(kept) < len(train):
        notes.append(f"fitted on {len(kept):,} of {len(train):,} training rows, drawn at random")
    if not converged:
        notes.append(f"not converged in {_MOST_STEPS} steps")
    answered = _predictions(probabilities, labels, multi_label)
    return Baseline(features.name, features.title, answered, len(kept), "; ".join(notes))


def maker(columns: list[str]) -> Any:
    """What makes `Features` of rows with these columns. Raises NoBaseline where nothing does."""
    if "text" in columns:
        return text_features
    if "image" in columns:
        return pixel_features
    if "audio" in columns:
        return sound_features
    raise NoBaseline("the rows have no text, image or sound")


def _kept(rows: int, classes: int, dense: bool, seed: int) -> np.ndarray:
    """Which training rows are fitted: all of them, or as many as take a bearable time, in their order."""
    # A text has about 30 features that aren't 0, a small image about 1,000.
    bearable = int(_MOST_WORK / classes / (1000 if dense else 30))
    most = min(_MOST_ROWS, max(_FEWEST_ROWS, bearable))
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _one(rows: list[list[str]], labels: tuple[str, ...], features: Features) -> tuple[np.ndarray, bool]:
    """One class a row: probabilities float64 [N, K], and whether the fit converged."""
    place = {name: index for index, name in enumerate(labels)}
    probabilities = np.zeros((features.test.shape[0], len(labels)))
    targets = np.array([place[row[0]] for row in rows])
    known = np.unique(targets)
    if len(known) < 2:
        raise NoBaseline("the fitted rows have one class")
    fitted, converged = _regression(features, targets)
    probabilities[:, known] = fitted
    return probabilities, converged


def _several(rows: list[list[str]], labels: tuple[str, ...], features: Features) -> tuple[np.ndarray, bool]:
    """A yes or no for each class: probabilities float64 [N, K], and whether every fit converged."""
    probabilities = np.zeros((features.test.shape[0], len(labels)))
    converged = True
    for index, label in enumerate(labels):
        targets = np.array([label in row for row in rows])
        if targets.all() or not targets.any():
            probabilities[:, index] = 1.0 if targets.all() else THRESHOLD / 2
            continue
        fitted, enough = _regression(features, targets)
        probabilities[:, index] = fitted[:, 1]
        converged &= enough
    return probabilities, converged


def _regression(features: Features, targets: np.ndarray) -> tuple[np.ndarray, bool]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = LogisticRegression(C=features.softness, max_iter=_MOST_STEPS)
    # One thread: the matrices are small, and threads that wait for a busy core make this ten times slower.
    with threadpool_limits(1), warnings.catch_warnings():
        # Said in the report instead.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features.train, targets)
    return model.predict_proba(features.test), bool(model.n_iter_.max() < _MOST_STEPS)
