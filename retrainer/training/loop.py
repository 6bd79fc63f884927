"""The fit loop: the same for every task, family and strategy.

Legend: B rows of a batch, N rows of a split, K outputs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from retrainer.errors import UserError
from retrainer.models._network import Network
from retrainer.settings import Compute, Training
from retrainer.tasks._protocol import ClassificationTask
from retrainer.training._progress import Progress
from retrainer.training._vocabulary import words_in_use
from retrainer.training.compute import prepare
from retrainer.training.feeder import (
    Batch,
    Rows,
    evaluation_batch_size,
    feed,
    shuffled_batches,
    sorted_batches,
    stream,
    stream_seed,
)
from retrainer.training.schedule import rate
from retrainer.training.strategies import Data, Plan, autocast, backbone_rate, memory_format, plan

OnEpoch = Callable[[int, dict[str, float]], None]
# Losses are read in groups: reading one waits for the device.
_STEPS_BETWEEN_LOOKS = 32


def fit(
    network: Network,
    task: ClassificationTask,
    train: Data,
    validation: Data | None,
    training: Training,
    compute: Compute,
    on_epoch: OnEpoch,
    progress: bool,
) -> list[dict[str, Any]]:
    """Trains `network` in place (left on the CPU, in eval mode) and returns the history, one entry an epoch.

    `train` and `validation` are what the task encoded, and its targets. An entry holds `epoch` (from 1),
    `train_loss`, `learning_rate` (the head's, at the last step), with validation rows `validation_loss` and
    `validation_accuracy`, and `kept`: whether this epoch's weights are those that remain. The history repeats
    exactly; `on_epoch(epoch, figures)` also gets `seconds` and `rows_per_second`. Raises UserError when the
    loss is no longer a number.
    """
    device = prepare(compute)
    network.to(device=device, memory_format=memory_format(network))
    bar = Progress(training.epochs, len(train[0]), progress)
    try:
        splits = [train[0]] if validation is None else [train[0], validation[0]]
        # A frozen table costs nothing.
        words = nullcontext() if training.strategy == "frozen" else words_in_use(network.body, task, splits)
        with own_randomness(training.seed, device), words:
            strategy = plan(network, task, train, validation, training, compute, device)
            history = _Run(strategy, task, training, compute, bar).epochs(on_epoch)
    finally:
        bar.close()
    network.to(device="cpu", memory_format=torch.contiguous_format)
    network.eval().requires_grad_(True)
    return history


@contextmanager
def own_randomness(seed: int, device: torch.device, purpose: str = "dropout") -> Iterator[None]:
    """PyTorch's global generators start from `seed` inside and are as before outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(stream_seed(seed, purpose))
        yield


@dataclass
class _Run:
    """One call of `fit`: what stays the same from step to step."""

    strategy: Plan
    task: ClassificationTask
    training: Training
    compute: Compute
    bar: Progress

    def epochs(self, on_epoch: OnEpoch) -> list[dict[str, Any]]:
        order, views = stream(self.training.seed, "order"), stream(self.training.seed, "augmentation")
        rows, held_out = self.strategy.train, self.strategy.validation
        optimiser = torch.optim.AdamW(self.strategy.groups, fused=True)
        history: list[dict[str, Any]] = []
        lowest, best = math.inf, None
        for epoch in range(1, self.training.epochs + 1):
            started = time.perf_counter()
            batches = shuffled_batches(len(rows), self.training.batch_size, rows.lengths, order)
            figures = self.train_epoch(optimiser, batches, views, epoch)
            seconds = time.perf_counter() - started
            if held_out is not None:
                figures |= self.validate(held_out, epoch)
            history.append({"epoch": epoch, **figures, "kept": False})
            on_epoch(epoch, figures | {"seconds": seconds, "rows_per_second": len(rows) / seconds})
            self.bar.epoch(epoch, figures)
            if self.training.keep == "best" and figures.get("validation_loss", math.inf) < lowest:
                lowest, best = figures["validation_loss"], (epoch, self.weights())
        kept = self.training.epochs
        if best is not None:
            kept = best[0]
            self.strategy.trained.load_state_dict(best[1])
        history[kept - 1]["kept"] = True
        return history

    def weights(self) -> dict[str, Tensor]:
        """A copy of what is trained (and of its BatchNorm statistics)."""
        return {name: t.detach().clone() for name, t in self.strategy.trained.state_dict().items()}

    def train_epoch(
        self, optimiser: torch.optim.Optimizer, batches: list[np.ndarray], views: torch.Generator, epoch: int
    ) -> dict[str, float]:
        """One pass over the training rows; returns its mean loss and last learning rate."""
        self.strategy.trained.train()
        training, share = self.training, 0.0
        done, steps = (epoch - 1) * len(batches), training.epochs * len(batches)
        total, seen, waiting = 0.0, 0, []
        for number, (batch, targets, rows) in enumerate(feed(self.strategy.train, batches, views), start=1):
            share = rate(done + number - 1, steps, training.warmup, training.schedule)
            waiting.append((self.step(optimiser, batch, targets, share), len(rows)))
            if len(waiting) == _STEPS_BETWEEN_LOOKS or number == len(batches):
                sums = torch.stack([loss for loss, _ in waiting]).double().cpu()
                self.require_finite(sums, f"epoch {epoch}", number - len(waiting), len(batches))
                passed = sum(count for _, count in waiting)
                total, seen, waiting = total + float(sums.sum()), seen + passed, []
                self.bar.advance(epoch, passed, total / seen)
        return {"train_loss": total / seen, "learning_rate": training.learning_rate * share}

    def step(self, optimiser: torch.optim.Optimizer, batch: Batch, targets: Tensor, share: float) -> Tensor:
        """One update at `share` of the peak rates; returns the sum of the rows' losses, on the device."""
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * share
        with autocast(self.compute):
            logits = self.strategy.forward(batch)
            losses = self.task.loss(logits, targets, self.training.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        losses.mean().backward()
        if self.training.clip_norm:
            trained = [p for group in optimiser.param_groups for p in group["params"]]
            clip_grad_norm_(trained, self.training.clip_norm, foreach=True)
        optimiser.step()
        return losses.detach().sum()

    def validate(self, rows: Rows, epoch: int) -> dict[str, float]:
        """Mean loss (never smoothed) and share of right answers, in eval mode."""
        self.strategy.trained.eval()
        loss, right = 0.0, 0
        batches = sorted_batches(len(rows), evaluation_batch_size(rows), rows.lengths)
        with torch.no_grad(), autocast(self.compute):
            for batch, targets, _ in feed(rows, batches, None):
                logits = self.strategy.forward(batch)
                loss += float(self.task.loss(logits, targets, 0.0).double().sum())
                decided = self.task.decide(self.task.probabilities(logits))
                right += int(self.task.correct(decided, targets.cpu().numpy()).sum())
        self.require_finite(torch.tensor([loss]), f"the validation after epoch {epoch}", 0, 1)
        return {"validation_loss": loss / len(rows), "validation_accuracy": right / len(rows)}

    def require_finite(self, losses: Tensor, when: str, before: int, steps: int) -> None:
        """Raises UserError for the first loss that overflowed; `before` steps went well."""
        bad = (~losses.isfinite()).nonzero()
        if not len(bad):
            return
        rates = f"training.learning_rate (now {self.training.learning_rate:g})"
        if self.training.strategy == "full":
            rates += f" and training.backbone_learning_rate (now {backbone_rate(self.training):g})"
        step = before + int(bad[0]) + 1
        raise UserError(f"the loss is no longer a number in {when}, step {step} of {steps}: lower {rates}")
