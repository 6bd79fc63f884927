"""What little effort says of the same rows: the median, the mean, and ridge regression on cheap features.

All are fitted on the training rows alone. Legend: N rows, F features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.formats.columns import picked
from retrainer.pages.page import measured
from retrainer.tasks._class_features import pixel_features, text_features
from retrainer.tasks._protocol import Baseline, Baselines

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.settings import Evaluation

_MOST_ROWS = 50_000
# Of dense features, the penalty that leave-one-out prefers on the fitted rows.
_PENALTIES = np.logspace(-1, 5, 13)


def baselines(train: pa.Table, test: pa.Table, evaluation: Evaluation) -> Baselines:
    """The median comes first: of all constants it has the least mean absolute error, the mean the best R²."""
    numbers = train["target"].to_numpy()
    constants = {"median": float(np.median(numbers)), "mean": float(numbers.mean())}
    found = tuple(
        Baseline(name, f"always the {name}, {measured(value)}", _table([value] * len(test)), len(train))
        for name, value in constants.items()
    )
    if not evaluation.baseline:
        return Baselines(found, "evaluation.baseline is false")
    return Baselines((*found, ridge(train, test, evaluation.seed)))


def ridge(train: pa.Table, test: pa.Table, seed: int) -> Baseline:
    """On TF-IDF of words, or on small standardised pixels. Fitted on a random part of very many rows."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    kept = train
    if len(train) > _MOST_ROWS:
        drawn = np.random.default_rng(seed).choice(len(train), _MOST_ROWS, replace=False)
        kept = picked(train, np.sort(drawn))
    of_text = "text" in train.column_names
    features = (text_features if of_text else pixel_features)(kept, test, 1)
    with threadpool_limits(1):
        fitted = _regression(of_text).fit(features.train, kept["target"].to_numpy())
    notes = [features.note] if features.note else []
    if len(kept) < len(train):
        notes.append(f"fitted on {len(kept):,} of {len(train):,} training rows, drawn at random")
    name, title = ("tfidf_ridge", "TF-IDF") if of_text else ("pixels_ridge", "pixels")
    predictions = _table(fitted.predict(features.test))
    return Baseline(name, f"{title} + ridge regression", predictions, len(kept), "; ".join(notes))


def _regression(of_text: bool) -> Any:
    from sklearn.linear_model import Ridge, RidgeCV

    return Ridge() if of_text else RidgeCV(_PENALTIES)


def _table(numbers: Any) -> pa.Table:
    import pyarrow as pa

    return pa.table({"prediction": pa.array(numbers, pa.float64())})
