"""The epochs of the fit loop: a pass over the training rows, the validation, the history, and when to stop.

Legend: B rows of a batch, N rows of a split, K outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrainer.errors import Diverged
from retrainer.settings import Training
from retrainer.tasks._device import send
from retrainer.training._progress import Progress
from retrainer.training._state import State
from retrainer.training.checkpoints import Checkpoints
from retrainer.training.compute import autocast
from retrainer.training.groups import backbone_rate
from retrainer.training.learner import Learner
from retrainer.training.loader import Rows, evaluation_batch_size, load_batches, sorted_batches
from retrainer.training.schedule import rate
from retrainer.training.strategies import Phase, Plan
from retrainer.training.train_step import ROWS, TrainStep

OnEpoch = Callable[[int, dict[str, float]], None]
# Of an entry of the history.
_NO_FIGURES = ("epoch", "kept", "micro_batches", "reproducible", "updates")
# Losses are read in groups: reading one waits for the device.
_STEPS_BETWEEN_SYNCS = 32


@dataclass
class Epochs:
    """The epochs of one call of `fit`, each with its training, validation, figures and checkpoints."""

    learner: Learner
    strategy: Plan
    state: State
    train_step: TrainStep
    bar: Progress
    checkpoints: Checkpoints

    @property
    def training(self) -> Training:
        return self.learner.training

    def run(self, on_epoch: OnEpoch) -> list[dict[str, Any]]:
        state = self.state
        for entry in state.history:
            on_epoch(entry["epoch"], {name: entry[name] for name in entry if name not in _NO_FIGURES})
        for phase in self.strategy.phases(state.epoch):
            while state.epoch <= phase.last and not self.ended(phase):
                self.epoch(phase, on_epoch)
            if self.ended(phase):
                break
        return state.finish()

    def ended(self, phase: Phase) -> bool:
        """Whether the time is up, or the validation loss has not been lower for as long as one may wait.

        Follows from the history alone. A phase that others follow is never cut short by its losses.
        """
        history, patience = self.state.history, self.training.patience
        if history and not history[-1].get("reproducible", True):
            return True
        losses = [entry["validation_loss"] for entry in history[phase.first - 1 :] if patience]
        waited = len(losses) - 1 - int(np.argmin(losses)) if losses else 0
        return 0 < patience <= waited and phase.last == self.training.epochs

    def epoch(self, phase: Phase, on_epoch: OnEpoch) -> None:
        state, rows = self.state, phase.train
        started = time.perf_counter()
        batches = self.train_step.batches(rows)
        whole = state.step == 0
        if self.training.packing and phase.last == self.training.epochs and state.epoch == phase.first:
            self.tell_packing(batches, rows)
        figures = self.train_epoch(phase, batches)
        if self.train_step.private:
            del figures["train_loss"]
        seconds = time.perf_counter() - started
        seen = sum(map(len, batches))
        speed = {"seconds": seconds, "rows_per_second": seen / seconds} if whole else {}
        if phase.validation is not None:
            with state.kept_weights():
                state.group.follow_first(self.strategy.trained.buffers())  # BatchNorm's, which differ
                figures |= self.validate(phase, phase.validation)
        on_epoch(state.epoch, figures | speed)
        self.bar.epoch(state.epoch, figures)
        marks = self.train_step.marks()
        if state.step < len(batches):
            marks["reproducible"] = False
        state.end_epoch(figures | marks, self.training.keep == "best")
        self.maybe_save()

    def tell_packing(self, batches: list[np.ndarray], rows: Rows) -> None:
        if self.state.group.rank == 0 and rows.lengths is not None:
            from retrainer.training._packed import tell_saving

            tell_saving(batches, rows.lengths)

    def maybe_save(self) -> None:
        """Writes a checkpoint when one is due. With shared weights all processes give their part of it."""
        state, checkpoints = self.state, self.checkpoints
        if not state.group.sharded:
            checkpoints.maybe_save(state.snapshot)
        elif state.group.first_says(checkpoints.due, torch.device("cpu")):
            snapshot = state.snapshot()
            checkpoints.maybe_save(lambda: snapshot)

    def train_epoch(self, phase: Phase, batches: list[np.ndarray]) -> dict[str, float]:
        """A pass over the training rows, or the rest of it; returns its mean loss and last learning rate.

        Each phase has a warm-up and a fall of the rates of its own.
        """
        state, training = self.state, self.training
        phase.set_mode(self.strategy.trained)
        before = (state.epoch - phase.first) * len(batches)
        steps = (phase.last - phase.first + 1) * len(batches)
        mine = [state.group.share(batch) for batch in batches]
        loaded = load_batches(
            phase.train, mine, state.views, state.step, state.mark_views, state.views_reached
        )
        for batch, targets, numbers in loaded:
            share = rate(before + state.step, steps, training.warmup, training.schedule)
            rows = len(batches[state.step])
            if state.pruning is not None:
                batch[ROWS] = send(torch.from_numpy(numbers), targets.device)
            state.waiting.append((self.train_step(phase, batch, targets, rows, share), rows))
            late = training.budget_seconds > 0 and self.late(targets.device)
            if len(state.waiting) == _STEPS_BETWEEN_SYNCS or state.step == len(batches) or late:
                self.sync_losses(len(batches))
            self.maybe_save()
            if late:
                break
        last = rate(before + state.step - 1, steps, training.warmup, training.schedule)
        return {"train_loss": state.loss / max(1, state.rows), "learning_rate": training.learning_rate * last}

    def late(self, device: torch.device) -> bool:
        return self.state.group.first_says(self.state.spent() > self.training.budget_seconds, device)

    def sync_losses(self, steps: int) -> None:
        """Reads the losses that wait on the device, of an epoch of so many steps."""
        state = self.state
        sums = torch.stack([loss for loss, _ in state.waiting]).double().cpu()
        self.require_finite(sums, f"epoch {state.epoch}", state.step - len(state.waiting), steps)
        passed = sum(count for _, count in state.waiting)
        state.loss, state.rows, state.waiting = state.loss + float(sums.sum()), state.rows + passed, []
        self.bar.advance(state.epoch, passed, state.loss / max(1, state.rows))

    def validate(self, phase: Phase, rows: Rows) -> dict[str, float]:
        """Mean loss (never smoothed) and the means of the task's own figures, in eval mode."""
        self.strategy.trained.eval()
        group = self.state.group
        batches = sorted_batches(len(rows), evaluation_batch_size(rows), rows.lengths)
        # All compute as many batches, of which the last may not count: each must know the figures' names.
        mine, own = group.share_batches(batches)
        sums: dict[str, float] = {"loss": 0.0}
        with torch.no_grad(), autocast(self.learner.compute):
            for place, (batch, targets, _) in enumerate(load_batches(rows, mine, None)):
                counts = place < own
                outputs = phase.answer(batch)
                sums["loss"] += counts * float(self.learner.task.loss(outputs, targets, 0.0).double().sum())
                for name, values in self.learner.task.figures(outputs, targets).items():
                    sums[name] = sums.get(name, 0.0) + counts * float(values.sum())
                # Nothing moves here: what is kept is the state behind the epoch's last step.
                self.maybe_save()
        together = torch.tensor(list(sums.values()), dtype=torch.float64, device=rows.targets.device)
        means = dict(zip(sums, (group.sum(together) / len(rows)).tolist(), strict=True))
        self.require_finite(
            torch.tensor([means["loss"]]), f"the validation after epoch {self.state.epoch}", 0, 1
        )
        return {f"validation_{name}": value for name, value in means.items()}

    def require_finite(self, losses: Tensor, when: str, before: int, steps: int) -> None:
        """Raises UserError for the first loss that overflowed; `before` steps went well."""
        bad = (~losses.isfinite()).nonzero()
        if not len(bad):
            return
        rates = f"training.learning_rate (now {self.training.learning_rate:g})"
        if self.training.strategy not in ("scratch", "frozen"):
            rates += f" and training.backbone_learning_rate (now {backbone_rate(self.training):g})"
        step = before + int(bad[0]) + 1
        raise Diverged(f"the loss is no longer a number in {when}, step {step} of {steps}: lower {rates}")
