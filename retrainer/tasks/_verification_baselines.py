"""What little effort tells of who it is: nothing, mean spectra or pixels as they are, and their linear
discriminants.

Legend: N rows, F features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from retrainer.formats.columns import picked
from retrainer.metrics._pair_scores import NEVER, identities
from retrainer.tasks._gallery import answers
from retrainer.tasks._protocol import Baseline, Baselines
from retrainer.tasks._verification_head import threshold_at

if TYPE_CHECKING:
    from retrainer.settings import Evaluation

# Of training rows the thresholds need no more, and linear discriminants neither.
_MOST_ROWS = 5_000


def baselines(train: pa.Table, test: pa.Table, evaluation: Evaluation, false_accepts: float) -> Baselines:
    """The first takes all rows for one; the others' thresholds are chosen on the training rows."""
    alike = answers(np.ones((len(test), 1), np.float32), None, NEVER)
    trivial = Baseline("all_alike", "all rows alike", alike, 0)
    if not evaluation.baseline:
        return Baselines((trivial,), "evaluation.baseline is false")
    if len(train) > _MOST_ROWS:
        chosen = np.random.default_rng(evaluation.seed).choice(len(train), _MOST_ROWS, replace=False)
        train = picked(train, np.sort(chosen))
    what, before, after = _features(train, test)
    who = identities(train)
    found = [_baseline("mean_features", what, before, after, who, false_accepts)]
    if len(np.unique(who)) < len(who):  # else nothing tells how much rows of one identity differ
        made = _discriminants(before, after, who)
        title = f"{what} + discriminants"
        found.append(_baseline("linear_discriminants", title, *made, who, false_accepts))
    return Baselines((trivial, *found))


def _baseline(
    name: str, title: str, before: np.ndarray, after: np.ndarray, who: np.ndarray, false_accepts: float
) -> Baseline:
    threshold = threshold_at(_unit(before), who, false_accepts)
    return Baseline(name, title, answers(_unit(after), None, threshold), len(before))


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _features(train: pa.Table, test: pa.Table) -> tuple[str, np.ndarray, np.ndarray]:
    """What they are in words, and float [N, F] of both, standardised by the training rows."""
    if "image" in train.column_names:
        from retrainer.tasks._class_features import pixel_features

        made = pixel_features(train, test, 1)
        return "pixels", np.asarray(made.train), np.asarray(made.test)
    from retrainer.tasks._sound_baselines import voice_spectra

    before, after = voice_spectra(train), voice_spectra(test)
    mean, scale = before.mean(axis=0), before.std(axis=0) + 1e-6
    return "log-mel statistics", (before - mean) / scale, (after - mean) / scale


def _discriminants(before: np.ndarray, after: np.ndarray, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        # So that each identity's spread is known in fewer directions than there are rows.
        most = max(1, min(before.shape[1], (len(before) - len(np.unique(who))) // 2))
        reduced = PCA(most, random_state=0).fit(before)
        fitted = LinearDiscriminantAnalysis().fit(reduced.transform(before), who)
        return tuple(np.asarray(fitted.transform(reduced.transform(one))) for one in (before, after))
