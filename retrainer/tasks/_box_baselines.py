"""What little effort finds in the same images: the usual boxes, and those of the most similar training image.

Legend: N rows, M boxes, C clusters.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from retrainer.formats.names import CORNERS
from retrainer.tasks._found_boxes import FOUND
from retrainer.tasks._protocol import Baseline, Baselines

if TYPE_CHECKING:
    from retrainer.settings import Evaluation

# Pixels a side of the small grey copies whose distances say how similar two images are.
_SIDE = 24
_STEPS = 20
_MOST_CLUSTERS = 40


def baselines(train: pa.Table, test: pa.Table, settings: Evaluation) -> Baselines:
    sizes = [_size(image) for image in test["image"].to_pylist()]
    usual = Baseline(
        "usual_boxes",
        "the usual boxes, the same in every image",
        _table(_usual(train, sizes)),
        len(train),
        "clusters of the training boxes' places and sizes, relative to the image",
    )
    if not settings.baseline:
        return Baselines((usual,), "evaluation.baseline is false")
    similar = Baseline(
        "nearest_image",
        "the boxes of the most similar training image",
        _table(_nearest(train, test, sizes)),
        len(train),
        f"similar by the pixels of grey copies of {_SIDE} by {_SIDE}",
    )
    return Baselines((usual, similar))


def _table(rows: list[list[dict[str, Any]]]) -> pa.Table:
    return pa.table({"boxes": pa.array(rows, pa.list_(FOUND))})


def _size(image: dict[str, Any]) -> tuple[int, int]:
    """Width and height of the upright image."""
    from PIL import Image

    with Image.open(io.BytesIO(image["bytes"])) as opened:
        width, height = opened.size
        turned = opened.getexif().get(0x0112, 1) >= 5  # EXIF's orientation
    return (height, width) if turned else (width, height)


def _relative(table: pa.Table) -> list[tuple[list[str], np.ndarray]]:
    """Each row's classes and corners [M, 4] as shares of its image's sides."""
    rows = []
    for image, boxes in zip(table["image"].to_pylist(), table["boxes"].to_pylist(), strict=True):
        width, height = _size(image)
        corners = [[box[corner] for corner in CORNERS] for box in boxes or []]
        shares = np.array(corners, dtype=np.float64).reshape(-1, 4) / [width, height, width, height]
        rows.append(([box["label"] for box in boxes or []], shares))
    return rows


def _boxes(
    labels: list[str], shares: np.ndarray, scores: list[float], size: tuple[int, int]
) -> list[dict[str, Any]]:
    corners = shares * [*size, *size]
    return [
        {"label": label, "score": score, **dict(zip(CORNERS, row, strict=True))}
        for label, score, row in zip(labels, scores, corners.tolist(), strict=True)
    ]


def _usual(train: pa.Table, sizes: list[tuple[int, int]]) -> list[list[dict[str, Any]]]:
    """As many clusters of a class as an image has of its boxes in the mean; the largest cluster first."""
    rows = _relative(train)
    labels: list[str] = []
    shares, scores = [], []
    for label in sorted({name for names, _ in rows for name in names}):
        mine = [box for names, boxes in rows for name, box in zip(names, boxes, strict=True) if name == label]
        count = min(_MOST_CLUSTERS, max(1, round(len(mine) / len(rows))))
        centres, members = _clusters(np.array(mine), count)
        labels += [label] * len(centres)
        shares.append(centres)
        scores += (members / len(mine)).tolist()
    joined = np.concatenate(shares) if shares else np.zeros((0, 4))
    return [_boxes(labels, joined, scores, size) for size in sizes]


def _clusters(boxes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """k-means (Lloyd 1982) of corners [M, 4]: means [C, 4] and members [C]; begun evenly along the first axis
    of the sorted boxes, so that nothing is drawn.
    """
    order = np.lexsort(boxes.T)
    centres = boxes[order][np.linspace(0, len(boxes) - 1, count).round().astype(int)]
    nearest: np.ndarray = np.zeros(len(boxes), int)
    for _ in range(_STEPS):
        nearest = ((boxes[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
        members = np.bincount(nearest, minlength=count)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, boxes)
        centres = np.where(members[:, None] > 0, sums / np.maximum(members, 1)[:, None], centres)
    return centres, np.bincount(nearest, minlength=count)


def _nearest(train: pa.Table, test: pa.Table, sizes: list[tuple[int, int]]) -> list[list[dict[str, Any]]]:
    """The nearer the image, the higher the score of its boxes."""
    rows = _relative(train)
    known, asked = _small(train), _small(test)
    found = []
    for pixels, size in zip(asked, sizes, strict=True):
        distances = ((known - pixels) ** 2).mean(1)
        row = int(distances.argmin())
        labels, shares = rows[row]
        found.append(_boxes(labels, shares, [1 / (1 + float(distances[row]))] * len(labels), size))
    return found


def _small(table: pa.Table) -> np.ndarray:
    """float32 [N, side × side], 0 to 1."""
    from retrainer.tasks._decode import EncodedImages

    columns = [name for name in ("image", "origin") if name in table.column_names]
    images = EncodedImages(table.select(columns), (_SIDE, _SIDE), 1).decode(range(len(table)))
    return images.reshape(len(images), -1).astype(np.float32) / 255
