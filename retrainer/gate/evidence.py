"""All that the gate judges by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retrainer.gate.data_figures import DataFigures, Months
from retrainer.gate.decision import Decision
from retrainer.gate.measured import Measured
from retrainer.gate.pair import Pair


@dataclass(frozen=True)
class Champion:
    """The registry's champion: its version, the digest of its model, and the model directory.

    dataset_sha256  of the rows that it was trained with; data: their figures, None where it has none
    moved_from      the version that retrainer's last move made champion, where another tool moved the alias
                    since; else ""
    """

    version: str
    model_sha256: str
    directory: Path
    dataset_sha256: str = ""
    data: DataFigures | None = None
    moved_from: str = ""


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
class Anchor:
    """The best champion so far. `model` is None where it cannot be had; `missing` then says why."""

    version: str
    model: Champion | None = None
    missing: str = ""


@dataclass(frozen=True)
class AgainstAnchor:
    """The candidate beside the anchor, on the rows that neither has learned from.

    is_champion   the anchor is the champion, so that there is nothing more to compare
    incomparable  why the two cannot be compared. Without `pair` and this, the candidate is the anchor.
    """

    version: str
    is_champion: bool = False
    pair: Pair | None = None
    incomparable: str = ""


@dataclass(frozen=True)
class Part:
    """A part of the compared rows, the candidate beside the champion: `by` is `class`, or a slice's name.

    title  of the figure, in words; `rows`: those of the class, or of the slice's value
    """

    by: str
    name: str
    title: str
    rows: int
    pair: Pair


@dataclass(frozen=True)
class Evidence:
    """What was measured on the test rows.

    candidate     the gate's metric of the model that is judged
    metric        the metric's name in the settings; `title`: what people read
    task_metric   the metric is the task's first one
    champion      the candidate beside the champion, on the rows that it was never trained on (on all, where
                  that is not known); None without a champion, or when it cannot be compared
    incomparable  why the champion that there is cannot be compared; empty when it was, or there is none
    left_out      test rows that are not compared, because the champion was trained on them or on
                  rows linked to them
    new           test rows that the champion was not tested on when it was judged; 0: none, or not known
    champion_on_new  `champion`, on the new rows alone; None where none of them can be compared
    trivial       the candidate beside the baseline that does not look at its input
    baseline      the candidate beside the cheap baseline
    is_champion   the candidate is the very model that is champion now
    first         the registry has no other version of this name
    decision      what somebody decided about this very model; None: nothing
    latency_ms    median time of one row on a CPU; model_mb: its files, in 10^6 bytes
    test_uses     models of this name that half of these test rows or more have judged, with this one
    anchor        the candidate beside the best champion so far; None where no anchor is known
    parts         classes that both models know, and the values of the declared slices, beside the champion
    appeared, vanished  classes that only the candidate, or only the champion, knows
    untested      classes that both know and that none of the compared rows has
    months        today's data beside the champion's; None where nothing is compared
    """

    candidate: Measured
    metric: str
    title: str
    task_metric: bool = True
    champion: Pair | None = None
    incomparable: str = ""
    left_out: int = 0
    new: int = 0
    champion_on_new: Pair | None = None
    trivial: Pair | None = None
    baseline: Pair | None = None
    is_champion: bool = False
    first: bool = True
    decision: Decision | None = None
    slices: tuple[SliceFigure, ...] = ()
    calibration_error: float | None = None
    latency_ms: float | None = None
    model_mb: float | None = None
    test_uses: int = 1
    anchor: AgainstAnchor | None = None
    parts: tuple[Part, ...] = ()
    appeared: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    untested: int = 0
    months: Months | None = None
