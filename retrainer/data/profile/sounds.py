"""Sounds as numbers: how long they are and at which rate they were recorded, from their headers alone.

Legend: N sounds, S measures.
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

from retrainer.errors import UserError
from retrainer.formats.audio import length_of

NAMES = ("milliseconds", "kHz")


def measure(column: pa.ChunkedArray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """NAMES, float [N, S] and an embedding of width 0, of a column of encoded sounds; both are logarithms.

    Of a sound that cannot be read they are 0.
    """
    found = [_measures(one["bytes"] if one else None) for one in column.to_pylist()]
    return NAMES, np.array(found, np.float64).reshape(-1, len(NAMES)), np.zeros((len(found), 0))


def _measures(sound: bytes | None) -> tuple[float, float]:
    try:
        seconds, rate = length_of(sound, "sound")
    except UserError:
        return 0.0, 0.0
    return math.log2(1 + 1000 * seconds), math.log2(rate / 1000)
