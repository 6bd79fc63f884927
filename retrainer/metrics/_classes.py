"""Classes as arrays: what the metrics of classification share.

Predictions have `label`, or `labels` in multi-label, and `probabilities`, a struct of one number a class.
The truth has `labels`. A class that only the rows or the decisions know has the probability 0: such a row is
wrong, and counts.

Legend: N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import DataError, ModelError
from retrainer.formats.columns import probability_matrix

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Classes:
    """`names`: those that have probabilities, in their order, then those that only rows or decisions have.

    `decided` and `targets`: bool [N, K]; `probabilities`: float64 [N, K].
    """

    names: tuple[str, ...]
    multi_label: bool
    decided: np.ndarray
    targets: np.ndarray
    probabilities: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """bool [N]; in multi-label the exact set."""
        return np.asarray((self.decided == self.targets).all(axis=1))

    @property
    def confidences(self) -> tuple[np.ndarray, np.ndarray]:
        """float64 and bool [N, 1], in multi-label [N, K]: how sure each answer was, and if it was right."""
        if self.multi_label:
            return self.probabilities, self.targets
        return self.probabilities.max(axis=1, keepdims=True), self.correct[:, None]


def classes(predictions: pa.Table, truth: pa.Table) -> Classes:
    """Raises UserError for probabilities that are not finite, and for a row without exactly one class when
    the predictions are not multi-label.
    """
    multi_label = "labels" in predictions.column_names
    answers = _lists(predictions["labels" if multi_label else "label"])
    targets = _lists(truth["labels"])
    probabilities = probability_matrix(predictions)
    known = tuple(field.name for field in predictions["probabilities"].type)
    if not np.isfinite(probabilities).all():
        raise ModelError(
            "the model's probabilities are not finite: lower training.learning_rate and train again"
        )
    if not multi_label:
        _refuse_other_than_one(targets)
    names = (*known, *sorted({*_names(answers), *_names(targets)} - set(known)))
    padded: np.ndarray = np.zeros((len(predictions), len(names)))
    padded[:, : len(known)] = probabilities
    return Classes(names, multi_label, _hits(answers, names), _hits(targets, names), padded)


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)


def _lists(column: pa.ChunkedArray) -> pa.ListArray:
    """One array of lists, of a column of lists or of single values."""
    import pyarrow as pa

    whole = pa.chunked_array(column.chunks, column.type).combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # pyarrow keeps an empty one in pieces
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], column.type)
    if pa.types.is_list(whole.type):
        return whole
    offsets = pa.array(np.arange(len(whole) + 1), pa.int32())
    return pa.ListArray.from_arrays(offsets, whole)


def _names(lists: pa.ListArray) -> Iterable[str]:
    import pyarrow.compute as pc

    return [str(name) for name in pc.unique(pc.list_flatten(lists)).to_pylist()]


def _hits(lists: pa.ListArray, names: tuple[str, ...]) -> np.ndarray:
    """bool [N, K]: which names each list has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: np.ndarray = np.zeros((len(lists), len(names)), dtype=bool)
    codes = pc.index_in(pc.list_flatten(lists), value_set=pa.array(names, pa.string()))
    found[pc.list_parent_indices(lists).to_numpy(), codes.to_numpy()] = True
    return found


def _refuse_other_than_one(targets: pa.ListArray) -> None:
    import pyarrow.compute as pc

    counts = pc.fill_null(pc.list_value_length(targets), 0).to_numpy()
    if (counts != 1).any():
        row = int((counts != 1).argmax())
        raise DataError(f"test row {row + 1} has {counts[row]} labels, not one; is task.multi_label meant?")
