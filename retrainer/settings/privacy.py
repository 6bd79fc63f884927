"""The privacy budget of a training, and the keys of `training:` under which it would not be true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from retrainer.errors import SettingError
from retrainer.settings.section import Section

if TYPE_CHECKING:
    from retrainer.settings.training import Training

# Below it, noise is all that a model learns from; above it the promise is worth little.
_LEAST, _MOST = 0.1, 50.0
_STRATEGIES = ("frozen", "lora", "full", "scratch")
# The key, the value that it must have, and what another one would do.
_REFUSED: tuple[tuple[str, Any, str], ...] = (
    ("balance", "none", "how much a row counts would depend on the classes of the other rows"),
    ("mixup", 0.0, "a mixed row's gradient is that of two rows"),
    ("cutmix", 0.0, "a mixed row's gradient is that of two rows"),
    ("cached_views", 1, "a row has one form; several kept ones are not accounted for"),
    ("checkpoint_activations", False, "each row's gradient is taken from one forward pass"),
    ("halve_on_out_of_memory", False, "a step is never begun again; set a higher training.accumulate"),
    ("command", "", "what your own trainer does is not known here"),
)


class Privacy(Section):
    """Differential privacy of every training row, by DP-SGD (Abadi et al. 2016, arXiv:1607.00133)."""

    epsilon: float = Field(
        0.0, description="the weights may depend on any one training row by no more than this; 0: not private"
    )
    delta: float = Field(
        1e-5, gt=0, le=0.01, description="chance that more than epsilon is lost; below 1 / training rows"
    )

    @field_validator("epsilon")
    @classmethod
    def _in_range(cls, value: float) -> float:
        if value and not _LEAST <= value <= _MOST:
            raise ValueError(f"expected 0 (not private), or {_LEAST:g} to {_MOST:g}")
        return value


def require_private(training: Training) -> None:
    """Raises UserError for the first key under which `training.privacy.epsilon` would be false."""
    if not training.privacy.epsilon:
        return
    if training.strategy not in _STRATEGIES:
        raise SettingError(
            f"training.strategy: {training.strategy} is not trained with training.privacy; set one of"
            f" {', '.join(_STRATEGIES)}"
        )
    if not training.clip_norm:
        raise SettingError(
            "training.clip_norm: 0, and training.privacy needs a largest norm of a row's gradient; set 1.0"
        )
    for key, allowed, why in _REFUSED:
        if getattr(training, key) != allowed:
            raise SettingError(
                f"training.{key} makes training.privacy.epsilon false: {why}; leave one of them out"
            )
