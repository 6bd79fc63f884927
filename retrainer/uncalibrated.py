"""When a model gets no temperature (retrainer/training/calibration.py), in words. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# On fewer validation rows the temperature would mostly follow chance.
FEWEST_ROWS = 50


def why_none(training: Mapping[str, Any], validation_rows: int) -> str:
    """Why a model that was trained by the section `training` has no temperature but 1, in half a sentence."""
    if training.get("command"):
        return "the trainer of training.command gave none"
    if not training.get("calibrate", True):
        return "training.calibrate is false"
    if validation_rows < FEWEST_ROWS:
        rows = (
            f"{validation_rows} are too few, at least {FEWEST_ROWS} are needed"
            if validation_rows
            else "there are none"
        )
        return f"it is fitted to validation rows, and {rows} (split.validation)"
    return "the validation rows hold no mistake, or nothing but mistakes, so none fits them"
