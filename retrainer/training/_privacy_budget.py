"""How much noise a private training needs, and what its steps have spent: by Opacus' accountant.

Source: Gopi et al. 2021, arXiv:2106.02848. Legend: N training rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from retrainer.errors import SettingError
from retrainer.settings import Training
from retrainer.training._opacus import ignored, opacus
from retrainer.training.loader import batch_count

ACCOUNTANT = "prv"
# By how much the accountant's answer may lie above the true one: a share of epsilon, never more than this.
_SHARE, _MOST = 0.01, 0.01


@dataclass(frozen=True)
class Budget:
    """What is asked for, and the noise by which `steps` steps spend no more.

    `sample_rate`: the chance of a row to be in a step. `noise_multiplier`: the noise's standard deviation,
    for a clipping norm of 1.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    sample_rate: float
    steps: int

    @classmethod
    def of(cls, training: Training, rows: int) -> Budget:
        """For N = `rows`. Raises UserError where delta or the batches do not suit so many rows."""
        asked, rate = training.privacy, training.batch_size / rows
        if rate >= 1:
            raise SettingError(
                f"training.batch_size: {training.batch_size} of {rows} training rows leave no row out of a"
                " step, on which training.privacy counts; set less"
            )
        if asked.delta >= 1 / rows:
            raise SettingError(
                f"training.privacy.delta: {asked.delta:g} would allow to give away a whole row of {rows:,};"
                f" set less than {1 / rows:.1g}"
            )
        steps = training.epochs * batch_count(rows, training.batch_size)
        return cls(asked.epsilon, asked.delta, _noise(asked.epsilon, asked.delta, rate, steps), rate, steps)

    def spent(self, steps: int) -> float:
        """Epsilon after so many steps, by Opacus' accountant: an upper bound."""
        history = [(self.noise_multiplier, self.sample_rate, steps)]
        return epsilon_of(history, self.delta, _tolerance(self.epsilon))

    def facts(self, steps: int, clip_norm: float) -> dict[str, Any]:
        """Of a training that took so many steps, for the model's description."""
        return {
            "epsilon": round(self.spent(steps), 6),
            "delta": self.delta,
            "asked": self.epsilon,
            "accountant": ACCOUNTANT,
            "noise_multiplier": self.noise_multiplier,
            "sample_rate": self.sample_rate,
            "steps": steps,
            "clip_norm": clip_norm,
        }


def epsilon_of(history: list[tuple[float, float, int]], delta: float, error: float = _MOST) -> float:
    """Of (noise multiplier, sampling rate, steps), by Opacus' accountant; at most `error` too high."""
    accountant = opacus().accountants.create_accountant(mechanism=ACCOUNTANT)
    accountant.history = history
    with ignored("Optimal order is the"):
        return float(accountant.get_epsilon(delta=delta, eps_error=error))


def _tolerance(epsilon: float) -> float:
    return min(_MOST, _SHARE * epsilon)


@lru_cache(maxsize=8)
def _noise(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The least noise, within the tolerance, by which so many steps spend no more than `epsilon`."""
    tolerance = _tolerance(epsilon)
    try:
        with ignored("Optimal order is the"):
            found = opacus().accountants.utils.get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant=ACCOUNTANT,
                epsilon_tolerance=tolerance,
                eps_error=tolerance,
            )
    except (ValueError, RuntimeError) as error:
        raise SettingError(
            f"training.privacy: no noise was found for epsilon {epsilon:g} in {steps:,} steps ({error}); set"
            " a higher epsilon, or fewer epochs"
        ) from None
    return float(found)
