"""Rows of a dataset as vectors, by what the task reads of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from retrainer.data.task_columns import TaskColumns
from retrainer.data.vectors.images import image_vectors, small_images
from retrainer.data.vectors.sounds import sound_vectors
from retrainer.data.vectors.texts import text_vectors


def row_vectors(table: pa.Table, columns: TaskColumns) -> np.ndarray | None:
    """float32 [rows, dimensions] of the first image, or of the first sound, or else of the texts; None for
    other inputs."""
    images, sounds, texts = map(columns.inputs_of, ("image", "audio", "string"))
    if images:
        return image_vectors(small_images(table[images[0]]))
    if sounds:
        return sound_vectors(table[sounds[0]])
    if not texts:
        return None
    parts = zip(*(table[name].to_pylist() for name in texts), strict=True)
    return text_vectors(["\n".join(part or "" for part in row) for row in parts])
