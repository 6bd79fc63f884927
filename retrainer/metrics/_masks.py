"""What the metrics of masks share: each image's pixels, counted by true and given class.

The classes are those that the truth has. A given class that it never has is a mistake of the true one, and is
not judged as a class of its own. Pixels whose true class is ignored count nowhere.

Legend: N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.errors import DataError
from retrainer.formats.columns import classes_of_mask, each
from retrainer.formats.masks import numbered, read_mask

if TYPE_CHECKING:
    import pyarrow as pa

# Of a large mask, each pixel of which takes 30 bytes while it is counted.
_PIXELS_AT_ONCE = 1 << 22


def class_names(truth: pa.Table) -> list[str]:
    """The classes of the true masks, in the order of their names."""
    return sorted({name for mask in each(truth["mask"]) for name in classes_of_mask(mask)})


def confusion(found: dict[str, Any], true: dict[str, Any], names: list[str], name: str) -> np.ndarray:
    """int64 [K, K + 1]: pixels of one image by true and given class; the last column: any other class.

    Raises DataError beginning with `name` for masks of two sizes.
    """
    places = {one: place for place, one in enumerate(names)}
    true_values, found_values = (read_mask(mask["image"]["bytes"], name) for mask in (true, found))
    if true_values.shape != found_values.shape:
        raise DataError(f"{name}: the masks are {true_values.shape} and {found_values.shape} pixels")
    known, other = len(names), len(names)
    counts: np.ndarray = np.zeros(known * (known + 1), np.int64)
    step = max(1, _PIXELS_AT_ONCE // max(1, true_values.shape[1]))
    for start in range(0, len(true_values), step):
        part = slice(start, start + step)
        had = numbered(true_values[part], true["classes"], places, -1)
        said = numbered(found_values[part], found["classes"], places, other)
        counted = had >= 0
        # A pixel without an answer is answered wrongly.
        answer = np.where(said[counted] < 0, other, said[counted])
        cells = had[counted].astype(np.int64) * (known + 1) + answer
        counts += np.bincount(cells, minlength=len(counts))
    return counts.reshape(known, known + 1)


def confusions(predictions: pa.Table, truth: pa.Table) -> Iterator[np.ndarray]:
    """int64 [K, K + 1] of each row, by the classes of `class_names`: of all rows they may be large."""
    names = class_names(truth)
    pairs = zip(each(predictions["mask"]), each(truth["mask"]), strict=True)
    yield from (confusion(*pair, names, f"row {row}") for row, pair in enumerate(pairs))


def intersections_and_unions(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2K]: of each class the pixels that have it rightly, then those that have it in either."""
    rows = [of_confusion(counts) for counts in confusions(predictions, truth)]
    return np.stack(rows) if rows else np.zeros((0, 2 * len(class_names(truth))))


def of_confusion(counts: np.ndarray) -> np.ndarray:
    """[K, K + 1] → float64 [2K]: intersections, then unions."""
    known = counts[:, :-1]
    both = known.diagonal()
    either = counts.sum(1) + known.sum(0) - both
    return np.concatenate([both, either]).astype(np.float64)


def mean_over_classes(shares: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The mean of `shares` [..., K] over the classes that are there [..., K]; 0 where none is."""
    total = np.where(there, shares, 0.0).sum(-1)
    counts = there.sum(-1)
    return np.divide(total, counts, out=np.zeros_like(total), where=counts > 0)
