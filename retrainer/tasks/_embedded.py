"""What a network's body makes of the rows of a judgement, computed once, when it is first asked for.

Legend: N test rows, M training rows, D feature width.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from retrainer.formats.columns import picked

if TYPE_CHECKING:
    from retrainer.tasks._protocol import Judged

# More training rows than this are sampled evenly: their features would cost more than the evaluation.
MOST_TRAINING_ROWS = 5_000


class Embedded:
    """Features of the test rows, and of the training rows or an even sample of them: `rows` int64 [M]."""

    def __init__(self, judged: Judged) -> None:
        self._judged = judged
        self.rows = np.arange(len(judged.train))
        self.among = f"{len(judged.train):,} training rows"
        if len(self.rows) > MOST_TRAINING_ROWS:
            self.rows = np.linspace(0, len(judged.train) - 1, MOST_TRAINING_ROWS).astype(np.int64)
            self.among = f"{MOST_TRAINING_ROWS:,} of {len(judged.train):,} training rows"

    @cached_property
    def test(self) -> np.ndarray:
        """float32 [N, D]."""
        kept = self._judged.features
        return self._judged.predictor.features(self._judged.test) if kept is None else kept

    @cached_property
    def train(self) -> np.ndarray:
        """float32 [M, D]."""
        chosen, kept = self._judged.train, self._judged.train_features
        if kept is not None:
            return kept[self.rows]
        if len(self.rows) < len(chosen):
            chosen = picked(chosen, self.rows)
        return self._judged.predictor.features(chosen)
