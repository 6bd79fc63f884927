"""Rows of a dataset as vectors, by what the task reads of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from retrainer.data.images import of_each_image
from retrainer.data.similar.images import small_pixels
from retrainer.data.task_columns import TaskColumns
from retrainer.data.vectors.images import image_vectors
from retrainer.data.vectors.texts import text_vectors

_SIDE = 32


def row_vectors(table: pa.Table, columns: TaskColumns) -> np.ndarray | None:
    """float32 [rows, dimensions] of the first image, or else of the texts; None for other inputs."""
    images, texts = columns.inputs_of("image"), columns.inputs_of("string")
    if images:
        return image_vectors(np.stack(of_each_image(table[images[0]], _small, _grey())))
    if not texts:
        return None
    parts = zip(*(table[name].to_pylist() for name in texts), strict=True)
    return text_vectors(["\n".join(part or "" for part in row) for row in parts])


def _small(encoded: pa.Buffer) -> np.ndarray:
    found = small_pixels(encoded)
    return _grey() if found is None else found


def _grey() -> np.ndarray:
    return np.full((_SIDE, _SIDE, 3), 128, np.uint8)
