"""The rows to label first, as they are written: with the model's prediction and why each is worth a look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.suggest.choose import badge, margins
from retrainer.suggest.pool import Pool

if TYPE_CHECKING:
    from retrainer.predict import Predictor

SEED = 0
METHOD = "badge"
# The two likeliest classes are closer to each other than this.
_UNSURE = 0.5


def chosen_rows(pool: Pool, predictor: Predictor, count: int) -> list[dict[str, Any]]:
    """The rows to label, the first one first, as they are written."""
    several = bool(getattr(predictor.task, "multi_label", False))
    margin = margins(pool.probabilities, several)
    order = badge(pool.features, pool.probabilities, count, several, SEED)
    return [
        {"rank": rank, **_row(pool, row, predictor.labels, float(margin[row]), several)}
        for rank, row in enumerate(order.tolist(), start=1)
    ]


def _row(pool: Pool, row: int, labels: Sequence[str], margin: float, several: bool) -> dict[str, Any]:
    shares = pool.probabilities[row]
    known = {name: pool.shown[name][row].as_py() or "" for name in pool.shown.column_names}
    likeliest = np.argsort(-shares, kind="stable")
    decided = [labels[at] for at in likeliest if shares[at] > 0.5] if several else [labels[likeliest[0]]]
    return {
        **{name: known.pop(name) for name in ("origin", "id") if name in known},
        "score": round(1 - margin, 4),
        "reason": _reason(labels, shares, likeliest[:2], margin),
        "prediction": "|".join(decided),
        "probability": round(float(shares[likeliest[0]]), 4),
        **known,
    }


def _reason(labels: Sequence[str], shares: np.ndarray, likeliest: np.ndarray, margin: float) -> str:
    """Why a person should look at it: the model is unsure of it, or it is unlike the rows before it."""
    between = " or ".join(f"{labels[at]} {100 * shares[at]:.0f}%" for at in likeliest)
    return f"unsure: {between}" if margin < _UNSURE else f"unlike the rows above: {between}"
