"""Average precision as COCO defines it (Lin et al. 2014, arXiv:1405.0312): what its two metrics share.

It ranks the boxes of all images by score, so it is no function of sums over rows. A row (an image) is kept as
the few numbers that ranking needs, and the value is computed exactly for any weights of the rows: ones give
the value itself, 0 and 1 a slice, counts a bootstrap's sample. All figures equal pycocotools' to the last
digit; of boxes with equal scores the earlier row's comes first, there as here.

Legend: N rows, S numbers of a row, K classes with true boxes, D predicted boxes, T thresholds, G true boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# Of each image and class so many boxes are judged, those with the highest scores (COCO's maxDets).
MOST_BOXES = 100
# A row is a list of triples: class (from 1; 0 for nothing), score or this mark, hits or number of true boxes.
TRUTH = -1.0
_FIELDS = 3
_RECALLS = 101
# What `comparable` notes in the schema: the most boxes of an image in either of two models' predictions.
_MOST_KEY = b"most_boxes"
# Bytes of the largest intermediate array.
_BYTES_AT_ONCE = 64 << 20


def statistics(predictions: pa.Table, truth: pa.Table, thresholds: tuple[float, ...]) -> np.ndarray:
    """float64 [N, S] from the columns `boxes` of both tables, rows padded with zeros.

    A predicted box's hits are the sum of 2^t over the thresholds t at which it finds a true box. S is the
    same for two models that `comparable` has prepared.
    """
    import numpy as np

    classes = {name: number for number, name in enumerate(class_names(truth), start=1)}
    pairs = zip(predictions["boxes"].to_pylist(), truth["boxes"].to_pylist(), strict=True)
    rows = [_row(found or [], true or [], classes, np.asarray(thresholds)) for found, true in pairs]
    most = int((predictions.schema.metadata or {}).get(_MOST_KEY, b"0")) or _most(predictions)
    padded = np.zeros((len(rows), _FIELDS * (most + len(classes))))
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded


def _most(predictions: pa.Table) -> int:
    return max([len(boxes or []) for boxes in predictions["boxes"].to_pylist()], default=0)


def class_names(truth: pa.Table) -> list[str]:
    """The classes that have a true box: a metric's classes, in the order of their names."""
    return sorted({box["label"] for boxes in truth["boxes"].to_pylist() for box in boxes or []})


def _row(
    found: list[dict[str, Any]], true: list[dict[str, Any]], classes: dict[str, int], thresholds: np.ndarray
) -> list[float]:
    import numpy as np

    row: list[float] = []
    there = {box["label"] for box in (*found, *true)}
    for name, number in classes.items():
        if name not in there:
            continue
        truths = _corners([box for box in true if box["label"] == name])
        mine = [box for box in found if box["label"] == name]
        scores = np.array([box["score"] for box in mine])
        ranked = np.argsort(-scores, kind="stable")[:MOST_BOXES]
        hits = match(_corners([mine[place] for place in ranked]), truths, thresholds)
        if len(truths):
            row += [number, TRUTH, len(truths)]
        powers = 2.0 ** np.arange(len(thresholds))
        for score, at in zip(scores[ranked], hits.T @ powers, strict=True):
            row += [number, score, at]
    return row


def _corners(boxes: list[dict[str, Any]]) -> np.ndarray:
    """float64 [D, 4]: left, top, width, height."""
    import numpy as np

    sides = [(b["left"], b["top"], b["right"] - b["left"], b["bottom"] - b["top"]) for b in boxes]
    return np.array(sides, dtype=np.float64).reshape(-1, 4)


def overlaps(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Intersection over union [D, G] of boxes (left, top, width, height)."""
    import numpy as np

    ends = [np.minimum(_end(found, axis)[:, None], _end(true, axis)[None]) for axis in (0, 1)]
    begins = [np.maximum(found[:, None, axis], true[None, :, axis]) for axis in (0, 1)]
    width, height = (np.maximum(end - begin, 0) for end, begin in zip(ends, begins, strict=True))
    shared = width * height
    union = found[:, 2, None] * found[:, 3, None] + true[None, :, 2] * true[None, :, 3] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _end(boxes: np.ndarray, axis: int) -> np.ndarray:
    return boxes[:, axis] + boxes[:, axis + 2]


def match(found: np.ndarray, true: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Bool [T, D]: whether a box, in the order of the scores, finds a true box that none before it found.

    It takes the one that it overlaps most, the later of equals, as pycocotools does.
    """
    import numpy as np

    hits: np.ndarray = np.zeros((len(thresholds), len(found)), dtype=bool)
    if not len(found) or not len(true):
        return hits
    shares = overlaps(found, true)
    for place, threshold in enumerate(np.minimum(thresholds, 1 - 1e-10)):
        free: np.ndarray = np.ones(len(true), dtype=bool)
        for box in (shares.max(1) >= threshold).nonzero()[0]:
            left = np.where(free, shares[box], -1.0)
            best = len(left) - 1 - int(left[::-1].argmax())
            if left[best] >= threshold:
                hits[place, box], free[best] = True, False
    return hits


@dataclass(frozen=True)
class Ranked:
    """One class: each predicted box's row [D] and hits [T, D], best score first; true boxes a row [N]."""

    rows: np.ndarray
    hits: np.ndarray
    truths: np.ndarray
    scores: np.ndarray


def ranked(statistics: np.ndarray, thresholds: int) -> list[Ranked]:
    """Each class's boxes, ranked over all rows; a class's place is its number in `class_names`."""
    import numpy as np

    triples = statistics.reshape(len(statistics), statistics.shape[1] // _FIELDS, _FIELDS)
    numbers: np.ndarray = triples[..., 0].astype(int)
    scores, values = triples[..., 1], triples[..., 2]
    found = []
    for number in range(1, int(numbers.max(initial=0)) + 1):
        mine = numbers == number
        truths = np.where(mine & (scores == TRUTH), values, 0.0).sum(1)
        row, column = (mine & (scores != TRUTH)).nonzero()
        order = np.argsort(-scores[row, column], kind="stable")
        row, column = row[order], column[order]
        bits = values[row, column].astype(int)
        hits = (bits[None] >> np.arange(thresholds)[:, None]) & 1
        found.append(Ranked(row, hits.astype(bool), truths, scores[row, column]))
    return found


def precisions(one: Ranked, weights: np.ndarray) -> np.ndarray:
    """Interpolated precision [W, T, 101] at recalls 0, 0.01, …, 1 for each weighting [W, N] of the rows.

    NaN where the weighted rows have no true box of the class.
    """
    import numpy as np

    curve = np.zeros((len(weights), len(one.hits), _RECALLS))
    counted = weights[:, one.rows]  # [W, D]
    everything = counted.cumsum(1)
    positives = weights @ one.truths  # [W]
    for threshold, hits in enumerate(one.hits):
        # Precision is highest where a true box has just been found: between those nothing need be computed.
        places = hits.nonzero()[0]
        right = counted[:, places].cumsum(1)
        precision = right / (everything[:, places] + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        at = _first_reaching(right / np.where(positives > 0, positives, 1.0)[:, None])
        beyond = np.zeros((len(weights), 1))  # a recall that is never reached has the precision 0
        curve[:, threshold] = np.take_along_axis(np.concatenate([best, beyond], axis=1), at, axis=1)
    curve[positives == 0] = np.nan
    return curve


def _first_reaching(recall: np.ndarray) -> np.ndarray:
    """Int [W, 101]: of each row of rising recalls [W, M] the first place that reaches 0, 0.01, …, 1; M: none.

    Which of those each recall reaches is looked up for all rows at once; how many recalls do not reach one is
    then its place.
    """
    import numpy as np

    reached = np.searchsorted(np.linspace(0.0, 1.0, _RECALLS), recall.ravel(), side="right")
    cells = reached.reshape(recall.shape) + np.arange(len(recall))[:, None] * (_RECALLS + 1)
    counts = np.bincount(cells.ravel(), minlength=len(recall) * (_RECALLS + 1))
    return np.asarray(counts.reshape(len(recall), _RECALLS + 1).cumsum(1)[:, :_RECALLS])


def class_average_precisions(statistics: np.ndarray, weights: np.ndarray, thresholds: int) -> np.ndarray:
    """Average precision [W, K, T] for weights [W, N]; NaN for a class without a true box there."""
    import numpy as np

    classes = ranked(statistics, thresholds)
    parts = [precisions(one, weights).mean(-1) for one in classes]
    return np.stack(parts, axis=1) if parts else np.zeros((len(weights), 0, thresholds))


def value_of_rows(statistics: np.ndarray, weights: np.ndarray, thresholds: int) -> np.ndarray:
    """The metric [...] for weights [..., N] of the rows: the mean over thresholds, recalls and classes.

    Where the weighted rows have no true box: 0.
    """
    import numpy as np

    flat = np.asarray(weights, dtype=np.float64).reshape(
        int(np.prod(np.shape(weights)[:-1])), len(statistics)
    )
    classes = ranked(statistics, thresholds)
    most = max([len(one.rows) for one in classes], default=0)
    at_once = max(1, _BYTES_AT_ONCE // (8 * max(1, most, thresholds * _RECALLS * max(1, len(classes)))))
    values = [_means(classes, flat[at : at + at_once]) for at in range(0, len(flat), at_once)]
    joined = np.concatenate(values) if values else np.zeros(0)
    return joined.reshape(np.shape(weights)[:-1])


def _means(classes: list[Ranked], weights: np.ndarray) -> np.ndarray:
    import numpy as np

    if not classes:
        return np.zeros(len(weights))
    # In pycocotools' order (thresholds, recalls, classes), so that the mean rounds as it does there.
    curves = np.stack([precisions(one, weights) for one in classes], axis=-1).reshape(len(weights), -1)
    missing = np.isnan(curves)
    means = curves.mean(axis=1)
    for number in missing.any(axis=1).nonzero()[0]:
        known = curves[number, ~missing[number]]
        means[number] = known.mean() if len(known) else 0.0
    return np.asarray(means)
