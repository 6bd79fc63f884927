"""Differentially private training: DP-SGD, with the clipping of Opacus.

Each row's gradient is clipped to a norm of `training.clip_norm`, and their sum gets Gaussian noise; each step
draws every row with the same probability, alone (Poisson sampling). Source: Abadi et al. 2016,
arXiv:1607.00133.

Legend: B rows of a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from retrainer.errors import SettingError
from retrainer.training._opacus import opacus
from retrainer.training._privacy_budget import Budget
from retrainer.training.loader import Batch, Rows, batch_count
from retrainer.training.strategies import Phase
from retrainer.training.train_step import TrainStep

# Single rows' gradients are added in another order than the batch's.
_ROUNDING = 1e-3


@dataclass
class PrivateStep(TrainStep):
    """A step of DP-SGD. All that is random in it comes from the operating system and is kept nowhere.

    With the seed of the noise anyone could take the noise out again, and with that of the sampling know who
    was in which step: neither follows from `training.seed`, nor stands in a checkpoint. Gradients are
    computed in float32, in `training.accumulate` parts; each parameter's is then the clipped sum with noise,
    over `training.batch_size` whatever B is.
    """

    budget: Budget
    clipper: Any = field(init=False)
    _checked: bool = field(init=False, default=False)

    private: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.clipper = opacus().optimizers.DPOptimizer(
            self.state.optimiser,
            noise_multiplier=self.budget.noise_multiplier,
            max_grad_norm=self.training.clip_norm,
            expected_batch_size=self.training.batch_size,
        )

    def batches(self, rows: Rows) -> list[np.ndarray]:
        """Every row in every step with the same chance: some steps have more rows than others, or none."""
        draws = np.random.default_rng()  # of 128 bits from the operating system
        steps = batch_count(len(rows), self.training.batch_size)
        return [np.flatnonzero(draws.random(len(rows)) < self.budget.sample_rate) for _ in range(steps)]

    def marks(self) -> dict[str, Any]:
        return {"updates": self.state.updates}

    def _gradients(self, phase: Phase, batch: Batch, targets: Tensor, rows: int) -> Tensor:
        for parameter in self.clipper.params:
            parameter.summed_grad = None
        total = self._in_micro_batches(phase, batch, targets, rows)
        deviation = self.budget.noise_multiplier * self.training.clip_norm
        draws = np.random.default_rng()
        for parameter in self.clipper.params:
            clipped = torch.zeros_like(parameter) if parameter.summed_grad is None else parameter.summed_grad
            noise = torch.from_numpy(deviation * _normal(draws, tuple(parameter.shape)))
            parameter.grad = (clipped + noise.to(clipped)) / self.training.batch_size
        return total

    def _micro_batch(self, phase: Phase, batch: Batch, targets: Tensor, rows: int) -> Tensor:  # noqa: ARG002
        """Adds the clipped gradients of these rows; the sum of their losses."""
        if self._checked:
            losses = self._gradients_of_rows(phase, batch, targets)
        else:
            losses = self._first_gradients(phase, batch, targets)
        for parameter in self.clipper.params:
            if parameter.grad_sample is None:  # of no use to any row
                parameter.grad_sample = parameter.new_zeros(len(targets), *parameter.shape)
        self.clipper.clip_and_accumulate()
        for parameter in self.clipper.params:
            parameter.grad = parameter.grad_sample = None
        return losses.sum()

    def _across(self, total: Tensor, rows: int) -> Tensor:  # noqa: ARG002
        """One process, whose gradients are clipped already."""
        return total

    def _gradients_of_rows(self, phase: Phase, batch: Batch, targets: Tensor) -> Tensor:
        """Of each row [B] the loss."""
        losses = self.learner.task.loss(phase.forward(batch), targets, self.training.label_smoothing)
        losses.sum().backward()
        return losses.detach()

    def _first_gradients(self, phase: Phase, batch: Batch, targets: Tensor) -> Tensor:
        """The same, and looked at. Raises UserError where Opacus cannot take them of this network."""
        try:
            losses = self._gradients_of_rows(phase, batch, targets)
        except torch.OutOfMemoryError:
            raise SettingError(
                f"training.accumulate: the gradients of {len(targets)} single rows do not fit into the GPU's"
                " memory; set a higher one"
            ) from None
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SettingError(
                f"training.privacy: Opacus finds no gradients of single rows in this backbone ({reason}); set"
                " training.strategy: frozen or lora"
            ) from None
        self._require_all_of_them()
        self._checked = True
        return losses

    def _require_all_of_them(self) -> None:
        """Raises UserError unless the rows' own gradients add up to the batch's, in every parameter."""
        named = self.learner.network.named_parameters()
        found = {name: parameter for name, parameter in named if parameter.grad is not None}
        # Some gradients are 0 but for rounding, as those of an attention's keys' biases.
        near = _ROUNDING * max((float(one.grad.abs().max()) for one in found.values()), default=0.0)
        for name, parameter in found.items():
            rows = getattr(parameter, "grad_sample", None)
            summed = torch.zeros_like(parameter) if rows is None else rows.sum(dim=0)
            if not torch.allclose(summed, parameter.grad, rtol=_ROUNDING, atol=near):
                raise SettingError(
                    f"training.privacy: the gradient of a single row is not known in {name} of this backbone;"
                    " set training.strategy: frozen or lora"
                )


def _normal(draws: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 of a standard normal distribution, each the sum of four draws.

    A single draw's lowest bits would give away what was added to it (Holohan and Braghin 2021,
    arXiv:2107.10138, section 5.1); Opacus' secure mode draws as often.
    """
    summed = np.zeros(shape)
    for _ in range(4):
        summed += draws.standard_normal(shape)
    return (summed / 2).astype(np.float32)
