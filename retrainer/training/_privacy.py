"""Differentially private training: DP-SGD, with the clipping and the accountant of Opacus.

Each row's gradient is clipped to a norm of `training.clip_norm`, and their sum gets Gaussian noise; each step
draws every row with the same probability, alone (Poisson sampling). The one file that needs the extra
`privacy`. Sources: Abadi et al. 2016, arXiv:1607.00133; the accountant: Gopi et al. 2021, arXiv:2106.02848.

Legend: N training rows, B rows of a step.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from retrainer.errors import SettingError
from retrainer.models._network import Network
from retrainer.settings import Training
from retrainer.tasks._heads import LinearHead
from retrainer.training.loader import Batch, Rows, batch_count
from retrainer.training.strategies import Phase
from retrainer.training.train_step import TrainStep

ACCOUNTANT = "prv"
# By how much the accountant's answer may lie above the true one: a share of epsilon, never more than this.
_SHARE, _MOST = 0.01, 0.01
# Single rows' gradients are added in another order than the batch's.
_ROUNDING = 1e-3


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
    accountant = _opacus().accountants.create_accountant(mechanism=ACCOUNTANT)
    accountant.history = history
    with _ignored("Optimal order is the"):
        return float(accountant.get_epsilon(delta=delta, eps_error=error))


@contextmanager
def _ignored(warning: str) -> Iterator[None]:
    """The accountant asks another one, less exactly, how far its grid must reach; and features, as the
    numbers of words, need no gradient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", warning, UserWarning)
        yield


def _tolerance(epsilon: float) -> float:
    return min(_MOST, _SHARE * epsilon)


@lru_cache(maxsize=8)
def _noise(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The least noise, within the tolerance, by which so many steps spend no more than `epsilon`."""
    tolerance = _tolerance(epsilon)
    try:
        with _ignored("Optimal order is the"):
            found = _opacus().accountants.utils.get_noise_multiplier(
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
        self.clipper = _opacus().optimizers.DPOptimizer(
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


@contextmanager
def gradients_of_rows(network: Network, training: Training) -> Iterator[None]:
    """Inside, a backward pass leaves in each trained parameter the gradient of every row, as `grad_sample`.

    Raises UserError for a layer in which a row's output depends on the rows beside it.
    """
    opacus, head = _opacus(), network.head
    if isinstance(head, LinearHead):
        network.head = _PlainHead(head)
    trained = network.head if training.strategy == "frozen" else network
    _require_single_rows(trained, training)
    spread = _Spread(trained)
    hooks = opacus.grad_sample.GradSampleHooks(trained, loss_reduction="sum", strict=False)
    # With noise nothing repeats itself, and on a GPU Opacus uses what cannot.
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        with _ignored("Full backward hook is firing"):
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        hooks.cleanup()
        spread.remove()
        network.head = head


class _Spread:
    """What is looked up once for all rows of a batch, as the positions of words, is looked up for each.

    Else its gradient would be that of all rows at once.
    """

    def __init__(self, trained: nn.Module) -> None:
        self._rows = 0
        tables = [part for part in trained.modules() if isinstance(part, nn.Embedding)]
        self._hooks = [table.register_forward_pre_hook(self._spread) for table in tables]
        if tables:  # so it is a whole network, whose input is a batch
            self._hooks.append(trained.register_forward_pre_hook(self._count))

    def _count(self, _: nn.Module, inputs: tuple[Batch]) -> None:
        self._rows = len(next(iter(inputs[0].values())))

    def _spread(self, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        numbers = inputs[0]
        return (numbers.expand(self._rows, *numbers.shape[1:]) if len(numbers) == 1 else numbers,)

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


class _PlainHead(nn.Module):
    """A linear head whose layer is one of PyTorch's own, which Opacus knows; it shares the head's weights."""

    def __init__(self, head: LinearHead) -> None:
        super().__init__()
        self.dropout = head.dropout
        self.linear = nn.Linear(head.in_features, head.out_features, device="meta")
        self.linear.weight, self.linear.bias = head.weight, head.bias

    def forward(self, features: Tensor, batch: Any = None) -> Tensor:  # noqa: ARG002 (a head may read it)
        outputs: Tensor = self.linear(self.dropout(features))
        return outputs


def _require_single_rows(trained: nn.Module, training: Training) -> None:
    validators = _opacus().validators.ModuleValidator.VALIDATORS
    for name, part in trained.named_modules():
        norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
        learns = any(parameter.requires_grad for parameter in part.parameters(recurse=False))
        mixes = norm and training.strategy != "lora"  # there they stay in eval mode
        unfit = learns and (bool(list(part.buffers(recurse=False))) or _refused(validators, part))
        if mixes or unfit:
            why = "a row's output depends on the rows beside it" if norm else "Opacus refuses it"
            raise SettingError(
                f"training.privacy: {name or 'the network'} is a {type(part).__name__}: {why}; set"
                " training.strategy: frozen, or choose a backbone without it"
            )


def _refused(validators: dict[type, Any], part: nn.Module) -> bool:
    return type(part) in validators and bool(validators[type(part)](part))


@lru_cache(maxsize=1)
def _opacus() -> Any:
    """The package. It sets up the root logger when it is imported, which is undone."""
    handlers = list(logging.root.handlers)
    try:
        import opacus
        import opacus.accountants.utils
        import opacus.optimizers
        import opacus.validators
    except ModuleNotFoundError:
        raise SettingError(
            "training.privacy needs opacus, which is not installed; pip install 'retrainer[privacy]'"
        ) from None
    finally:
        logging.root.handlers[:] = handlers
    return opacus
