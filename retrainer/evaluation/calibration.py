"""Do probabilities mean what they say: how often answers of some confidence are right.

Legend: N rows, K labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retrainer.evaluation.answers import Answers
from retrainer.evaluation.metrics import BINS, bins_of, confidences


def calibration_figures(told: Answers, temperature: float) -> dict[str, Any]:
    """`calibration` of metrics.json: the temperature, the error with and without it, the bins with it."""
    confidence, right = confidences(told.probabilities, told)
    bins = bins_of(confidence)
    plain = uncalibrated(told.probabilities, temperature, told.multi_label)
    return {
        "temperature": temperature,
        "error": calibration_error(confidence, right),
        "uncalibrated_error": calibration_error(*confidences(plain, told)),
        "bins": [
            {
                "rows": int(inside.sum()),
                "confidence": round(float(confidence[inside].mean()), 6),
                "accuracy": round(float(right[inside].mean()), 6),
            }
            for inside in (bins == number for number in range(BINS))
            if inside.any()
        ],
    }


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """The expected calibration error of the module `metrics`, for arrays of one length."""
    gaps = np.bincount(bins_of(confidence), confidence - right, minlength=BINS)
    return round(float(np.abs(gaps).sum() / len(confidence)), 6)


def uncalibrated(probabilities: np.ndarray, temperature: float, multi_label: bool) -> np.ndarray:
    """What the model would have said at temperature 1: float64 [N, K], from probabilities [N, K]."""
    if multi_label:
        never = np.full_like(probabilities, np.inf)
        against = np.divide(1 - probabilities, probabilities, out=never, where=probabilities > 0)
        shares: np.ndarray = 1 / (1 + against**temperature)
        return shares
    powers = probabilities**temperature
    scaled: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return scaled
