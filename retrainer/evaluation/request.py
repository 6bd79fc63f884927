"""What evaluation is asked to judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.gate.decision import Decision
from retrainer.gate.evidence import Anchor, Champion
from retrainer.settings import Checks, Compute, Evaluation, Gate
from retrainer.uses_of_test_set import Judgements

if TYPE_CHECKING:
    import numpy as np

_AS_USUAL = Checks.parse({}, "checks")


@dataclass(frozen=True)
class Request:
    """What is judged, by which rules, and where the report goes.

    `name` is the registered model's, for the title; `judgements` are those of its versions. `training_cost`
    is what `retrainer.cost.priced` made of what MLflow knows of the training, None where that is nothing.
    `decision` is what somebody decided about the very model that is judged, None where nobody did.
    `train_features`, float32 [M, D], are what the model's body made of the training rows, where it is known.
    """

    dataset: Path
    model: Path
    out: Path
    evaluation: Evaluation
    gate: Gate
    compute: Compute
    champion: Champion | None = None
    name: str = ""
    judgements: Judgements = tuple
    checks: Checks = _AS_USUAL
    anchor: Anchor | None = None
    training_cost: dict[str, Any] | None = None
    decision: Decision | None = None
    train_features: np.ndarray | None = None
