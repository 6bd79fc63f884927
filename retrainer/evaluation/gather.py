"""Everything that the gate judges by, measured in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.evaluation.answers import Answers
from retrainer.evaluation.baselines import Baseline
from retrainer.evaluation.calibration import calibration_figures
from retrainer.evaluation.cost import latency_ms, model_mb
from retrainer.evaluation.evidence import Evidence
from retrainer.evaluation.overlap import HeldOut
from retrainer.evaluation.rivals import Rescored
from retrainer.evaluation.slices import slice_figures
from retrainer.settings import Evaluation, Gate

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Gathered:
    """The gate's evidence, and what metrics.json says of it: `slices`, `calibration`, `test_set`, `cost`."""

    evidence: Evidence
    figures: dict[str, Any]


def gather(
    model: Path,
    test: pa.Table,
    told: Answers,
    temperature: float,
    rescored: Rescored | None,
    baselines: list[Baseline],
    is_champion: bool,
    held_out: HeldOut,
    evaluation: Evaluation,
    gate: Gate,
) -> Gathered:
    """Measures what is still missing. A time only where the gate has a limit for it: it is new every time,
    and a report that nobody asked for a time stays the same to the byte.

    Raises UserError for a slice that these rows do not have.
    """
    right = {"majority" if one.name == "majority" else "linear": one.answers.correct for one in baselines}
    calibration = calibration_figures(told, temperature)
    cost = {
        "latency_ms": latency_ms(model, test) if gate.max_latency_ms else None,
        "model_mb": model_mb(model),
    }
    evidence = Evidence(
        candidate=told,
        champion=rescored.answers if rescored else None,
        incomparable=rescored.note if rescored and rescored.answers is None else "",
        fair=held_out.met.fair if held_out.met else None,
        new=held_out.met.new if held_out.met else None,
        majority=right.get("majority"),
        baseline=right.get("linear"),
        is_champion=is_champion,
        slices=slice_figures(test, told, evaluation.slices, gate.slice_floors, evaluation.confidence),
        calibration_error=calibration["error"],
        test_uses=held_out.uses,
        **cost,
    )
    figures = {
        "slices": [asdict(one) for one in evidence.slices],
        "calibration": calibration,
        "test_set": held_out.plain(),
        "cost": cost,
    }
    return Gathered(evidence, figures)
