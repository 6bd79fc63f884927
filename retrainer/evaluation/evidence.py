"""All that the gate judges by. Legend: N test rows, in one order for every array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrainer.evaluation.answers import Answers


@dataclass(frozen=True)
class SliceFigure:
    """Accuracy of the rows whose `by` (a column, text_length, …) has this value, with its interval."""

    by: str
    value: str
    rows: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Evidence:
    """What was measured on the test rows.

    champion      the champion's answers on the same rows; None without one, or when it cannot be asked
    incomparable  why the champion that there is cannot be asked; empty when it was, or there is none
    fair          bool [N]: rows that the champion was never trained on; None: it is not known, or all are
    new           bool [N]: rows that the champion was not tested on when it was judged; None: not known
    majority, baseline    bool [N]: what these had right
    is_champion   the candidate is the very model that is champion now
    latency_ms    median time of one row on a CPU; model_mb: its files, in 10^6 bytes
    test_uses     models of this name that these very test rows have judged, this one included
    """

    candidate: Answers
    champion: Answers | None = None
    incomparable: str = ""
    fair: np.ndarray | None = None
    new: np.ndarray | None = None
    majority: np.ndarray | None = None
    baseline: np.ndarray | None = None
    is_champion: bool = False
    slices: tuple[SliceFigure, ...] = ()
    calibration_error: float | None = None
    latency_ms: float | None = None
    model_mb: float | None = None
    test_uses: int = 1
