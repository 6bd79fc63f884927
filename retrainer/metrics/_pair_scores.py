"""Scores of pairs of rows, as histograms: what the metrics of verification share.

Predictions have `embedding`, a list of numbers a row, and `threshold`, one number for all rows; the truth has
`group`, whose names are the identities. The score of two rows is the cosine of their embeddings. A pair is
genuine where both rows are of one identity, else an impostor pair. Two recordings of one session are no
genuine pair, as what they share may be the room: the session is `session` of the rows' `metadata`, where they
have it.

A row's statistics are two histograms of the scores of its pairs with all other rows: of genuine ones, then of
impostors. Their sums have each pair twice, once from either row. Scores count as those of BINS equal steps
from -1 to 1, within which they are not told apart.

Legend: N rows, P pairs, B = BINS.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from retrainer.errors import DataError, ModelError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TARGET = "group"
BINS = 1000
SESSION = "session"
# A threshold that no cosine reaches.
NEVER = 2.0
_AT_ONCE, _PAIRS_AT_ONCE = 512, 1 << 22


def embeddings(predictions: pa.Table) -> np.ndarray:
    """float32 [N, D], each of length 1. Raises ModelError for values that are no numbers."""
    import numpy as np

    column = predictions["embedding"].combine_chunks()
    if not len(column):
        return np.zeros((0, 1), np.float32)
    made = np.asarray(column.flatten(), np.float64).reshape(len(column), -1)
    if not np.isfinite(made).all():
        raise ModelError(
            "the model's embeddings are not finite: lower training.learning_rate and train again"
        )
    lengths = np.linalg.norm(made, axis=1, keepdims=True)
    return (made / np.maximum(lengths, 1e-12)).astype(np.float32)


def identities(truth: pa.Table) -> np.ndarray:
    """int64 [N]: a number for each name of `group`."""
    import numpy as np

    names = np.array([str(name) for name in truth[TARGET].to_pylist()], dtype=object)
    return np.asarray(np.unique(names, return_inverse=True)[1], np.int64)


def sessions(truth: pa.Table) -> np.ndarray | None:
    """int64 [N]: a number for each session, and a negative one of its own for a row without; None: no row has
    any."""
    import numpy as np

    if "metadata" not in truth.column_names:
        return None
    found = [json.loads(text or "{}").get(SESSION) for text in truth["metadata"].to_pylist()]
    if not any(found):
        return None
    known = {name: number for number, name in enumerate(sorted({str(one) for one in found if one}))}
    return np.array([known[str(one)] if one else -1 - row for row, one in enumerate(found)], np.int64)


def pairs(predictions: pa.Table, truth: pa.Table) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Some rows at a time: their numbers [C], their scores with all rows [C, N], and of which kind each pair
    is [C, N]: 1 genuine, 0 of impostors, -1 none (a row with itself, or with another of its session).
    """
    import numpy as np

    made, who, when = embeddings(predictions), identities(truth), sessions(truth)
    step = max(1, min(_AT_ONCE, _PAIRS_AT_ONCE // max(1, len(who))))
    for start in range(0, len(who), step):
        rows = np.arange(start, min(start + step, len(who)))
        scores = np.clip(made[rows] @ made.T, -1, 1)
        same = who[rows, None] == who[None]
        kinds = same.astype(np.int8)
        if when is not None:
            kinds[same & (when[rows, None] == when[None])] = -1
        kinds[np.arange(len(rows)), rows] = -1
        yield rows, scores, kinds


def bins_of(scores: np.ndarray) -> np.ndarray:
    """The step, 0 to BINS - 1, of each score."""
    import numpy as np

    return np.minimum((scores + 1) * (BINS / 2), BINS - 1).astype(np.int64)


def statistics(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 2 B]. Raises DataError where there is no genuine, or no impostor pair at all."""
    import numpy as np

    counts: np.ndarray = np.zeros((len(truth), 2 * BINS))
    for rows, scores, kinds in pairs(predictions, truth):
        row, column = (kinds >= 0).nonzero()
        # Genuine pairs come first.
        places = row * 2 * BINS + bins_of(scores[row, column]) + BINS * (1 - kinds[row, column].astype(int))
        counts[rows] = np.bincount(places, minlength=len(rows) * 2 * BINS).reshape(len(rows), 2 * BINS)
    _require_pairs(bool(counts[:, :BINS].any() and counts[:, BINS:].any()))
    return counts


def decided(predictions: pa.Table, truth: pa.Table) -> np.ndarray:
    """float64 [N, 4]: of each row its impostor pairs that reach the threshold, its genuine pairs that do not,
    all its impostor pairs and all its genuine ones. Raises DataError as `statistics` does."""
    import numpy as np

    counts: np.ndarray = np.zeros((len(truth), 4))
    thresholds = predictions["threshold"].to_numpy()
    for rows, scores, kinds in pairs(predictions, truth):
        reaches = scores >= thresholds[rows, None]
        parts = (kinds == 0) & reaches, (kinds == 1) & ~reaches, kinds == 0, kinds == 1
        counts[rows] = np.stack([one.sum(axis=1) for one in parts], axis=1)
    _require_pairs(bool(counts[:, 3].any() and counts[:, 2].any()))
    return counts


def _require_pairs(there: bool) -> None:
    if not there:
        raise DataError(
            "verification needs pairs: two rows of one identity (of two sessions, where the metadata has"
            " `session`; pieces of one recording are one), and rows of another one; raise split.test, or give"
            " a test set that has them"
        )


def rates(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums [..., 2 B] → of every threshold between two steps, from below all scores to above them, the share
    of impostor pairs accepted and of genuine pairs rejected: [..., B + 1] each; 0 where there are none.
    """
    import numpy as np

    # Where draws move sums of pairs to first order, those of rare scores may come out below 0.
    genuine, impostors = (np.maximum(one, 0) for one in (sums[..., :BINS], sums[..., BINS:]))
    start = np.zeros((*sums.shape[:-1], 1))
    rejected = np.concatenate([start, genuine.cumsum(-1)], axis=-1)
    below = np.concatenate([start, impostors.cumsum(-1)], axis=-1)
    accepted = below[..., -1:] - below
    return share(accepted, below[..., -1:]), share(rejected, rejected[..., -1:])


def exists(sums: np.ndarray) -> np.ndarray:
    """Whether there are pairs of both kinds, bool [...]."""
    import numpy as np

    return np.asarray((sums[..., :BINS].max(-1) > 0) & (sums[..., BINS:].max(-1) > 0))


def threshold_of_bin(step: int) -> float:
    """The score at the lower end of a step; NEVER beyond the last one."""
    return 2 * step / BINS - 1 if step < BINS else NEVER


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where there is nothing."""
    import numpy as np

    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
