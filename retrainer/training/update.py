"""One step: from a batch to moved weights.

Legend: B rows of a batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from retrainer.errors import UserError
from retrainer.settings import Compute, Training
from retrainer.tasks._protocol import ClassificationTask
from retrainer.training._state import State
from retrainer.training.compute import autocast
from retrainer.training.feeder import Batch
from retrainer.training.mixing import mix, resize, side_share
from retrainer.training.strategies import Phase


@dataclass
class Update:
    """The same for every step of a run. `class_weights` [K] weigh the rows' losses, if given."""

    task: ClassificationTask
    training: Training
    compute: Compute
    state: State
    class_weights: Tensor | None

    def __call__(self, phase: Phase, batch: Batch, targets: Tensor, rows: int, share: float) -> Tensor:
        """One update at `share` of the peak rates; returns the sum of the rows' losses, on the device.

        The loss is the mean over the batch's `rows`, in however many processes and parts they are computed.
        """
        optimiser = self.state.optimiser
        self.state.begin_step()
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * share
        if "pixels" in batch:
            batch, targets = self._images(phase, batch, targets)
        total = self._gradients(phase, batch, targets, rows)
        trained = [p for group in optimiser.param_groups for p in group["params"]]
        total = self.state.group.sum_gradients(trained, total, rows)
        if self.training.clip_norm:
            clip_grad_norm_(trained, self.training.clip_norm, foreach=True)
        optimiser.step()
        self.state.end_step()
        return total

    def _images(self, phase: Phase, batch: Batch, targets: Tensor) -> tuple[Batch, Tensor]:
        """Small ones first, then mixed. What is drawn follows from the position alone."""
        training, state = self.training, self.state
        pixels = resize(batch["pixels"], side_share(training, state.epoch, phase.first, phase.last))
        if training.mixup or training.cutmix:
            draws = np.random.default_rng(state.position_seed("mixing", state.step))
            pixels, targets = mix(pixels, targets, len(self.task.labels), training, draws)
        return batch | {"pixels": pixels}, targets

    def _gradients(self, phase: Phase, batch: Batch, targets: Tensor, rows: int) -> Tensor:
        """The summed loss. When memory runs out it begins again, in twice the parts."""
        device = targets.device
        while True:
            self.state.optimiser.zero_grad(set_to_none=True)
            drawn = _drawn(device) if self.training.halve_on_out_of_memory else None
            try:
                return self._in_parts(phase, batch, targets, rows)
            except torch.OutOfMemoryError:
                self._halve(len(targets))
            # Outside of the handler, which holds on to what the step has made.
            assert drawn is not None
            _draw_again(device, drawn)

    def _in_parts(self, phase: Phase, batch: Batch, targets: Tensor, rows: int) -> Tensor:
        total = torch.zeros((), device=targets.device)
        count = len(targets)
        if not count:
            return total
        parts = min(self.state.parts, max(1, count // phase.fewest_rows))
        for start, end in pairwise(count * part // parts for part in range(parts + 1)):
            part = slice(start, end)
            wanted = targets[part]
            with autocast(self.compute):
                logits = phase.forward({name: tensor[part] for name, tensor in batch.items()})
                losses = self.task.loss(logits, wanted, self.training.label_smoothing)
            if self.class_weights is not None:
                soft = wanted.is_floating_point()
                losses = losses * (wanted @ self.class_weights if soft else self.class_weights[wanted])
            (losses.sum() / rows).backward()
            total += losses.detach().sum()
        return total

    def _halve(self, rows: int) -> None:
        if not self.training.halve_on_out_of_memory or self.state.parts >= rows:
            smaller = "set training.halve_on_out_of_memory: true, a higher training.accumulate, or a"
            if self.training.halve_on_out_of_memory:
                smaller = "not even one row at a time; set a smaller task.size or task.max_length, or a"
            raise UserError(
                f"training.batch_size: a step of {rows} rows does not fit into the GPU's memory; {smaller}"
                " smaller one"
            ) from None
        self.state.parts *= 2


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
