"""A hash of what a row shows or sounds like, by which it is known when its file was saved again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from retrainer.data.task_columns import TaskColumns


def perceptual_hashes(table: pa.Table, columns: TaskColumns) -> np.ndarray:
    """uint64 [rows, W] of the first image, or else of the first sound; W is 0 without one."""
    images, sounds = columns.inputs_of("image"), columns.inputs_of("audio")
    if images:
        from retrainer.data.pictures import picture_hashes

        return picture_hashes(table[images[0]])
    if sounds:
        from retrainer.data.similar.spectra import sound_hashes

        return sound_hashes(table[sounds[0]])
    return np.zeros((len(table), 0), np.uint64)
