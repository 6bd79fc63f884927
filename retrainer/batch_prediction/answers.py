"""A task's predictions as columns that every task has: `prediction`, `confidence`, `top_k`, `model_version`.

prediction      the class (a list of them where a row may have several), the number, the text, the boxes, or
                the mask (`mask_files`)
prediction_shares   of a mask that is a file: each class's share of the pixels
confidence      of classes: the probability of the predicted one (a list, where there are several)
top_k           where it is asked for: the likeliest classes, each with its probability
model_version   which model said so

Legend: N rows, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer.errors import SettingError

if TYPE_CHECKING:
    import pyarrow as pa

ORIGIN, PREDICTION, SHARES, CONFIDENCE, TOP_K, VERSION = (
    "origin",
    "prediction",
    "prediction_shares",
    "confidence",
    "top_k",
    "model_version",
)
OWN_NAMES = frozenset((ORIGIN, PREDICTION, CONFIDENCE, TOP_K, VERSION))
_PROBABILITIES = "probabilities"
# Of float32 no more digits mean anything.
_DIGITS = 6


def answer_columns(predictions: pa.Table, origins: list[str], version: str, top_k: int) -> pa.Table:
    """Origin and answer of each row [N]. `top_k`: how many classes to name beside the predicted one; 0: none.

    Columns of a plug-in's task beyond its first one keep their names.
    """
    import pyarrow as pa

    first, *further = (name for name in predictions.column_names if name != _PROBABILITIES)
    columns: dict[str, Any] = {ORIGIN: pa.array(origins, pa.string()), PREDICTION: predictions[first]}
    if _PROBABILITIES in predictions.column_names:
        columns |= _of_classes(predictions, predictions[first].to_pylist(), top_k)
    columns |= {name: predictions[name] for name in further if name not in OWN_NAMES}
    columns[VERSION] = pa.array([version] * len(origins), pa.string())
    return pa.table(columns)


def check_top_k(top_k: int, labels: tuple[str, ...]) -> None:
    """Raises SettingError where classes are asked for and the model has none."""
    if top_k and not labels:
        raise SettingError(f"TOP_K={top_k}: this model predicts no classes; leave TOP_K out")


def parse_top_k(text: str) -> int:
    """Raises SettingError for what is no number of classes."""
    if not (text.isascii() and text.isdigit()) or len(text) > 6:
        raise SettingError(f"TOP_K={text}: needed is how many classes to name with each row, 0 for none")
    return int(text)


def _of_classes(predictions: pa.Table, decided: list[Any], top_k: int) -> dict[str, pa.Array]:
    """`confidence` and, where it is asked for, `top_k`."""
    import numpy as np
    import pyarrow as pa

    from retrainer.formats.columns import probability_matrix

    kind = predictions.schema.field(_PROBABILITIES).type
    names = [kind.field(place).name for place in range(kind.num_fields)]
    shares = np.round(probability_matrix(predictions).astype(np.float64), _DIGITS)  # [N, K]
    places = {name: place for place, name in enumerate(names)}
    several = any(isinstance(one, list) for one in decided)
    confidence = [
        [row[places[name]] for name in one] if several else row[places[one]]
        for one, row in zip(decided, shares, strict=True)
    ]
    columns = {CONFIDENCE: pa.array(confidence, pa.list_(pa.float64()) if several else pa.float64())}
    if top_k:
        order = np.argsort(-shares, axis=1, kind="stable")[:, :top_k]
        likeliest = [
            [{"label": names[place], "probability": row[place]} for place in best]
            for best, row in zip(order, shares, strict=True)
        ]
        entry = pa.struct([("label", pa.string()), ("probability", pa.float64())])
        columns[TOP_K] = pa.array(likeliest, pa.list_(entry))
    return columns
