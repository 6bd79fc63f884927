"""The fit loop: the same for every task, family and strategy.

Legend: B rows of a batch, N rows of a split, K outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrainer.errors import Diverged
from retrainer.settings import Training
from retrainer.tasks._device import send
from retrainer.training._applies import require_applicable
from retrainer.training._progress import Progress
from retrainer.training._pruning import Pruning
from retrainer.training._repeatable import allow_what_cannot_repeat
from retrainer.training._state import State
from retrainer.training.checkpoints import Checkpoints, rows_trained
from retrainer.training.compute import autocast, prepare
from retrainer.training.groups import backbone_rate
from retrainer.training.learner import Data, Learner, Splits
from retrainer.training.loader import (
    Rows,
    evaluation_batch_size,
    load_batches,
    sorted_batches,
    stream_seed,
)
from retrainer.training.optimiser import make_optimiser
from retrainer.training.schedule import rate
from retrainer.training.strategies import Phase, Plan, memory_format, plan, replaced_for_training
from retrainer.training.train_step import ROWS, TrainStep, class_weights

OnEpoch = Callable[[int, dict[str, float]], None]
# Of an entry of the history.
_NO_FIGURES = ("epoch", "kept", "micro_batches", "reproducible", "updates")
# That a network looks at before its first step, if it does.
_ROWS_TO_BEGIN = 2048
# Losses are read in groups: reading one waits for the device.
_STEPS_BETWEEN_SYNCS = 32


def fit(
    learner: Learner,
    splits: Splits,
    on_epoch: OnEpoch = lambda *_: None,
    progress: bool = False,
    checkpoints: Checkpoints | None = None,
) -> list[dict[str, Any]]:
    """Trains the network in place (left on the CPU, in eval mode); returns the history, one entry an epoch.

    It goes on from the newest of `checkpoints`, writes further ones, and leaves after a signal. Every process
    of the learner's group calls it alike; what the first one is given and makes counts.

    An entry holds `epoch` (from 1), `train_loss`, `learning_rate` (the head's, at the last step), with
    validation rows `validation_loss` and one `validation_<name>` for each of the task's figures, and `kept`:
    whether this epoch's weights are those that remain. The history repeats exactly; `on_epoch(epoch,
    figures)` also gets `seconds` and `rows_per_second` of epochs that this process trained from their first
    step. `progress` shows a bar. Raises UserError when the loss is no longer a number.
    """
    checkpoints = checkpoints or Checkpoints()
    network, rows = learner.network, len(splits.train[0])
    device = prepare(learner.compute, *learner.group.here)
    require_applicable(learner, splits)
    begin_from_rows(learner, splits.train)
    if learner.compute.fsdp:
        kept = learner.group.from_first(checkpoints.newest(), torch.device("cpu"))
    else:
        network.to(device=device, memory_format=memory_format(network))
        kept = learner.group.from_first(checkpoints.newest(), device)
    bar = Progress(learner.training.epochs, rows, progress, rows_trained(kept, rows))
    try:
        with (
            own_randomness(learner.training.seed, device),
            replaced_for_training(learner, splits, device) as in_training,
        ):
            if device.type == "cuda" and rows > 1:
                _try_two_rows(learner, splits.train, device)
            run = _begin(in_training, splits, device, bar, checkpoints)
            if kept is not None:
                run.state.restore(kept)
                kept = None  # as large as the training itself
            with checkpoints.stop.held():
                history = run.epochs(on_epoch)
    finally:
        bar.close()
        checkpoints.close()
    network.to(device="cpu", memory_format=torch.contiguous_format)
    network.eval().requires_grad_(True)
    return history


def _begin(
    learner: Learner, splits: Splits, device: torch.device, bar: Progress, checkpoints: Checkpoints
) -> _Run:
    """The first epoch's state, optimiser and step."""
    strategy = plan(learner, splits, device)
    optimiser = make_optimiser(strategy.groups, learner.network, learner.training)
    state = State(strategy.trained, optimiser, learner.training, learner.group)
    if learner.training.prune:
        state.pruning = Pruning(learner.training.prune, len(splits.train[1]), device)
    step = _train_step(learner, state, splits.train[1], device)
    return _Run(learner, strategy, state, step, bar, checkpoints)


def _train_step(learner: Learner, state: State, targets: np.ndarray, device: torch.device) -> TrainStep:
    if not learner.training.privacy.epsilon:
        return TrainStep(learner, state, _class_weights(learner, targets, device))
    from retrainer.training._privacy import PrivateStep
    from retrainer.training._privacy_budget import Budget

    return PrivateStep(learner, state, None, Budget.of(learner.training, len(targets)))


@contextmanager
def own_randomness(seed: int, device: torch.device, purpose: str = "dropout") -> Iterator[None]:
    """PyTorch's global generators start from `seed` inside and are as before outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(stream_seed(seed, purpose))
        yield


def begin_from_rows(learner: Learner, train: Data) -> None:
    """Lets a network that begins from random values look at some of the rows, evenly from all of them."""
    begin = learner.network.description.begin
    if begin is None or learner.training.strategy != "scratch":
        return
    rows = np.unique(np.linspace(0, len(train[0]) - 1, _ROWS_TO_BEGIN).astype(np.int64))
    batch = learner.task.batch(train[0], rows, None)
    batch.pop("targets", None)
    begin(learner.network.body, batch)


def _try_two_rows(learner: Learner, train: Data, device: torch.device) -> None:
    """Finds operations that do not repeat themselves before they end a run."""
    task, smoothing = learner.task, learner.training.label_smoothing
    batch = task.batch(train[0], np.arange(min(2, len(train[0]))), None)
    own = batch.pop("targets", None)
    targets = (torch.from_numpy(train[1][:2]) if own is None else own).to(device)

    def loss(outputs: Any) -> Tensor:
        return task.loss(outputs, targets, smoothing)

    allow_what_cannot_repeat(learner.network, batch, loss, learner.compute, device)


def _class_weights(learner: Learner, targets: np.ndarray, device: torch.device) -> Tensor | None:
    if learner.training.balance != "weights":
        return None
    return class_weights(torch.from_numpy(targets), len(learner.task.labels)).to(device)


@dataclass
class _Run:
    """One call of `fit`: what stays the same from step to step."""

    learner: Learner
    strategy: Plan
    state: State
    train_step: TrainStep
    bar: Progress
    checkpoints: Checkpoints

    @property
    def training(self) -> Training:
        return self.learner.training

    def epochs(self, on_epoch: OnEpoch) -> list[dict[str, Any]]:
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
