"""One step: from a batch to moved weights.

Legend: B rows of a batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from retrainer.errors import SettingError
from retrainer.settings import Training
from retrainer.training._distributed import ALONE, Group
from retrainer.training._sharded import local
from retrainer.training._state import State
from retrainer.training.compute import autocast
from retrainer.training.learner import Learner
from retrainer.training.loader import Batch, Rows, shuffled_batches
from retrainer.training.mixing import mix, resize, side_share
from retrainer.training.strategies import Phase

# Where a batch has the numbers of its rows, for those that must know them; no network sees them.
ROWS = "row_numbers"


@dataclass
class TrainStep:
    """The same for every step of a run. `class_weights` [K] weigh the rows' losses, if given."""

    learner: Learner
    state: State
    class_weights: Tensor | None

    # Whether what follows from the training rows alone, as their loss does, is kept from the history.
    private: ClassVar[bool] = False

    @property
    def training(self) -> Training:
        return self.learner.training

    def __call__(self, phase: Phase, batch: Batch, targets: Tensor, rows: int, share: float) -> Tensor:
        """One update at `share` of the peak rates; returns the sum of the rows' losses, on the device.

        The loss is the mean over the batch's `rows`, in however many processes and micro-batches.
        """
        optimiser = self.state.optimiser
        self.state.begin_step()
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * share
        if "pixels" in batch:
            batch, targets = self._images(phase, batch, targets)
        total = self._across(self._gradients(phase, batch, targets, rows), rows)
        optimiser.step()
        self.state.end_step()
        return total

    def batches(self, rows: Rows) -> list[np.ndarray]:
        """The row numbers of each step of the epoch that begins."""
        sampled = self.training.balance == "sampling"
        classes = rows.targets.cpu().numpy() if sampled else None
        state, size, window = self.state, self.training.batch_size, rows.window_batches
        if state.pruning is None:
            return shuffled_batches(len(rows), size, rows.lengths, state.order, classes, window)
        kept = state.pruning.begin(state.epoch, self.training.epochs, state.order, state.step > 0)
        lengths = None if rows.lengths is None else rows.lengths[kept]
        batches = shuffled_batches(len(kept), size, lengths, state.order, None, window)
        return [kept[batch] for batch in batches]

    def marks(self) -> dict[str, Any]:
        """What the history says of the epoch that ends, beside figures."""
        micro_batches = self.state.micro_batches
        return {} if micro_batches == self.training.accumulate else {"micro_batches": micro_batches}

    def _across(self, total: Tensor, rows: int) -> Tensor:
        """Sums loss and gradients over all processes, and clips these."""
        trained = self.state.optimiser.parameters
        total = self.state.group.sum_gradients(trained, total, rows)
        if self.training.clip_norm:
            _clip(trained, self.training.clip_norm, self.state.group)
        return total

    def _images(self, phase: Phase, batch: Batch, targets: Tensor) -> tuple[Batch, Tensor]:
        """Small ones first, then mixed. What is drawn follows from the position alone."""
        training, state = self.training, self.state
        pixels = resize(batch["pixels"], side_share(training, state.epoch, phase.first, phase.last))
        if training.mixup or training.cutmix:
            draws = np.random.default_rng(state.position_seed("mixing", state.step))
            pixels, targets = mix(pixels, targets, len(self.learner.task.labels), training, draws)
        return batch | {"pixels": pixels}, targets

    def _gradients(self, phase: Phase, batch: Batch, targets: Tensor, rows: int) -> Tensor:
        """The summed loss. When memory runs out it begins again, in twice as many micro-batches."""
        device = targets.device
        while True:
            self.state.optimiser.zero_grad()
            drawn = _drawn(device) if self.training.halve_on_out_of_memory else None
            try:
                return self._in_micro_batches(phase, batch, targets, rows)
            except torch.OutOfMemoryError:
                self._halve(len(targets))
            # Outside of the handler, which holds on to what the step has made.
            assert drawn is not None
            _draw_again(device, drawn)

    def _in_micro_batches(self, phase: Phase, batch: Batch, targets: Tensor, rows: int) -> Tensor:
        count, group = len(targets), self.state.group
        if not count:
            return torch.zeros((), device=targets.device)
        smallest = group.smallest_share(rows) if group.sharded else count
        micro_batches = min(self.state.micro_batches, max(1, smallest // phase.fewest_rows))
        if micro_batches == 1:
            return self._micro_batch(phase, batch, targets, rows)
        sums = []
        for start, end in pairwise(count * n // micro_batches for n in range(micro_batches + 1)):
            some = {name: tensor[start:end] for name, tensor in batch.items()}
            sums.append(self._micro_batch(phase, some, targets[start:end], rows))
        return torch.stack(sums).sum()

    def _micro_batch(self, phase: Phase, batch: Batch, targets: Tensor, rows: int) -> Tensor:
        """Adds to the gradients; the sum of these rows' losses."""
        with autocast(self.learner.compute):
            logits = phase.forward({name: tensor for name, tensor in batch.items() if name != ROWS})
            losses = self.learner.task.loss(logits, targets, self.training.label_smoothing)
        if self.state.pruning is not None:
            losses = self.state.pruning.weigh(batch[ROWS], losses)
        if self.class_weights is not None:
            soft = targets.is_floating_point()
            losses = losses * (targets @ self.class_weights if soft else self.class_weights[targets])
        counts = self.state.group.counts(rows)
        # Of their sum over `rows`, with two operations fewer to go back through.
        losses.backward(torch.full_like(losses, counts / rows))
        total = losses.detach().sum()
        return total if counts else total * 0

    def _halve(self, rows: int) -> None:
        if not self.training.halve_on_out_of_memory or self.state.micro_batches >= rows:
            smaller = (
                "set training.halve_on_out_of_memory: true, training.checkpoint_activations: true, a higher"
                " training.accumulate, or a"
            )
            if self.training.halve_on_out_of_memory:
                smaller = "not even one row at a time; set a smaller task.size or task.max_length, or a"
            raise SettingError(
                f"training.batch_size: a step of {rows} rows does not fit into the GPU's memory; {smaller}"
                " smaller one"
            ) from None
        self.state.micro_batches *= 2


def _clip(parameters: list[nn.Parameter], largest: float, group: Group = ALONE) -> None:
    """Scales all gradients down to a norm of `largest`: `clip_grad_norm_` to the bit, in half of its time."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if group.sharded:
        gradients = [local(gradient) for gradient in gradients]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if group.sharded:  # of all parts
        norm = group.sum(norm.square()).sqrt()
    # Looking at it is free on a CPU alone, where mostly nothing is left to do.
    if norm.is_cuda or not float(norm) < 0.99 * largest:
        torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1.0))


def _drawn(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state() if device.type == "cuda" else torch.get_rng_state()


def _draw_again(device: torch.device, drawn: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(drawn)
        torch.cuda.empty_cache()
    else:
        torch.set_rng_state(drawn)


def class_weights(targets: Tensor, classes: int) -> Tensor:
    """Float32 [K] by which every class has the same sum of weights, and rows 1 in the mean."""
    counts = torch.bincount(targets, minlength=classes).float()
    present = (counts > 0).sum()
    return torch.where(counts > 0, len(targets) / (present * counts.clamp(min=1)), 0.0)
