"""The learning rate over a run, as a share of its peak."""

from __future__ import annotations

import math
from typing import Literal


def rate(step: int, steps: int, warmup: float, schedule: Literal["cosine", "linear", "constant"]) -> float:
    """The share of the peak rate at `step` (from 0) of `steps`.

    It rises in equal parts over the first `warmup` share of the steps, is 1 after it, and then stays
    (constant) or falls to 0 just beyond the last step, evenly (linear) or along half a cosine.

    A further schedule is a case here, and its name here and in `Training.schedule` (settings/training.py). A
    setting of its own, such as the share of the steps that fall, is a field of `Training`, and an argument of
    the two calls in epochs.py (`training.…`); `make docs` then tells of it. As any new field it makes
    `retrain.policy: new-data` train once more.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    done = (step - rising) / max(1, steps - rising)
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - done
        case "cosine":
            return (1 + math.cos(math.pi * done)) / 2
    raise ValueError(f"unknown schedule {schedule!r}")
