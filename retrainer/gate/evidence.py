"""All that the gate judges by. Legend: N test rows, in one order for every array."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrainer.gate.measured import Measured, Pair


@dataclass(frozen=True)
class Champion:
    """The registry's champion: its version, the digest of its model, and the model directory."""

    version: str
    model_sha256: str
    directory: Path


@dataclass(frozen=True)
class SliceFigure:
    """The gate's metric on the rows whose `by` (a column, text_length, …) is `name`, with its interval."""

    by: str
    name: str
    rows: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evidence:
    """What was measured on the test rows.

    candidate     the gate's metric of the model that is judged
    metric        the metric's name in the settings; `headline`: it is the task's first one
    champion      the candidate beside the champion; None without one, or when it cannot be compared
    incomparable  why the champion that there is cannot be compared; empty when it was, or there is none
    unseen_by_champion  bool [N]: rows that the champion was never trained on; None: it is not known, or all
    new           bool [N]: rows that the champion was not tested on when it was judged; None: not known
    trivial       the candidate beside the baseline that does not look at its input
    baseline      the candidate beside the cheap baseline
    is_champion   the candidate is the very model that is champion now
    latency_ms    median time of one row on a CPU; model_mb: its files, in 10^6 bytes
    test_uses     models of this name that these very test rows have judged, this one included
    """

    candidate: Measured
    metric: str
    headline: bool = True
    champion: Pair | None = None
    incomparable: str = ""
    unseen_by_champion: np.ndarray | None = None
    new: np.ndarray | None = None
    trivial: Pair | None = None
    baseline: Pair | None = None
    is_champion: bool = False
    slices: tuple[SliceFigure, ...] = ()
    calibration_error: float | None = None
    latency_ms: float | None = None
    model_mb: float | None = None
    test_uses: int = 1

    @property
    def title(self) -> str:
        return self.candidate.metric.TITLE

    @property
    def left_out(self) -> int:
        """Rows that are not compared, because the champion was trained on them."""
        if self.champion is None or self.unseen_by_champion is None:
            return 0
        return int((~self.unseen_by_champion).sum())
