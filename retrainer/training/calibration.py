"""How sure may it be: one temperature that makes the kept weights' probabilities fit the validation rows.

Logits are divided by it, so no decision changes. It is the one of the least negative log likelihood; in
b = 1 / temperature that is convex, so its slope is 0 once, and halving finds where.
Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

Legend: N validation rows, K classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.uncalibrated import FEWEST_ROWS

if TYPE_CHECKING:
    from retrainer.training.learner import Data, Learner

# A temperature beyond these is none: such rows hold no mistake, or nothing but mistakes.
LOWEST, HIGHEST = 0.1, 20.0
_HALVINGS = 60
_DECIMALS = 6


def calibrate(learner: Learner, validation: Data | None) -> float:
    """The temperature for the validation rows; 1.0 when there are fewer than FEWEST_ROWS, when the settings
    ask for none, or when the task has no use for one.

    The network is on the CPU in eval mode, and so it is left. It follows from the weights and the rows alone.
    """
    wanted = learner.training.calibrate and "calibration" in learner.task.abilities
    if not wanted or validation is None or len(validation[1]) < FEWEST_ROWS:
        return 1.0
    return fit_temperature(_logits(learner, validation), validation[1], validation[1].ndim == 2)


def fit_temperature(logits: np.ndarray, targets: np.ndarray, multi_label: bool) -> float:
    """Logits [N, K] and targets (int [N], or 0 and 1 as [N, K]) → the temperature, to six decimals.

    1.0 when it would lie outside LOWEST..HIGHEST.
    """
    logits = logits.astype(np.float64)
    slope = _binary_slope if multi_label else _slope
    low, high = math.log(1 / HIGHEST), math.log(1 / LOWEST)
    if not slope(math.exp(low), logits, targets) < 0 < slope(math.exp(high), logits, targets):
        return 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rising = slope(math.exp(middle), logits, targets) > 0
        low, high = (low, middle) if rising else (middle, high)
    return round(math.exp(-(low + high) / 2), _DECIMALS)


def _slope(scale: float, logits: np.ndarray, targets: np.ndarray) -> float:
    """The derivative of the mean negative log likelihood of softmax(scale * logits) by `scale`."""
    powers = np.exp(scale * (logits - logits.max(axis=1, keepdims=True)))
    expected = (powers * logits).sum(axis=1) / powers.sum(axis=1)
    return float((expected - logits[np.arange(len(logits)), targets]).mean())


def _binary_slope(scale: float, logits: np.ndarray, targets: np.ndarray) -> float:
    """The same of sigmoid(scale * logits), over every row and class."""
    shares = 0.5 * (1 + np.tanh(0.5 * scale * logits))
    return float(((shares - targets) * logits).mean())


def _logits(learner: Learner, rows: Data) -> np.ndarray:
    """[N, K], computed in float32, as the model will be asked; the network returns to the CPU."""
    import torch

    from retrainer.models._network import exact
    from retrainer.training.loader import evaluation_batch_size, load_batches, sorted_batches
    from retrainer.training.strategies import memory_format, placed_rows

    network, device = learner.network, torch.device(learner.compute.device)
    layout = memory_format(network)
    network.to(device=device, memory_format=layout)
    loaded = placed_rows(learner.task, rows, network, device)
    batches = sorted_batches(len(loaded), evaluation_batch_size(loaded), loaded.lengths)
    logits: Any = None
    with torch.inference_mode(), exact(device):
        for batch, _, numbers in load_batches(loaded, batches, None):
            answered = network(batch).float().cpu().numpy()
            logits = np.empty((len(loaded), answered.shape[1]), np.float32) if logits is None else logits
            logits[numbers] = answered
    network.to(device="cpu", memory_format=torch.contiguous_format)
    return np.asarray(logits)
