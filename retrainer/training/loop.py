"""The fit loop: the same for every task, family and strategy. What an epoch does stands in `epochs.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrainer.training._applies import require_applicable
from retrainer.training._progress import Progress
from retrainer.training._prototypes import fit_prototypes, has_prototypes
from retrainer.training._pruning import Pruning
from retrainer.training._repeatable import allow_what_cannot_repeat
from retrainer.training._state import State
from retrainer.training.checkpoints import Checkpoints, rows_trained
from retrainer.training.compute import prepare
from retrainer.training.epochs import Epochs, OnEpoch
from retrainer.training.learner import Data, Learner, Splits
from retrainer.training.loader import stream_seed
from retrainer.training.optimiser import make_optimiser
from retrainer.training.strategies import memory_format, plan, replaced_for_training
from retrainer.training.train_step import TrainStep, class_weights

# That a network looks at before its first step, if it does.
_ROWS_TO_BEGIN = 2048


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
            if has_prototypes(learner):
                history = fit_prototypes(in_training, splits, device, on_epoch)
            else:
                if device.type == "cuda" and rows > 1:
                    _try_two_rows(learner, splits.train, device)
                epochs = _begin(in_training, splits, device, bar, checkpoints)
                if kept is not None:
                    epochs.state.restore(kept)
                    kept = None  # as large as the training itself
                with checkpoints.stop.held():
                    history = epochs.run(on_epoch)
    finally:
        bar.close()
        checkpoints.close()
    network.to(device="cpu", memory_format=torch.contiguous_format)
    network.eval().requires_grad_(True)
    return history


def _begin(
    learner: Learner, splits: Splits, device: torch.device, bar: Progress, checkpoints: Checkpoints
) -> Epochs:
    """The first epoch's state, optimiser and step."""
    strategy = plan(learner, splits, device)
    optimiser = make_optimiser(strategy.groups, learner.network, learner.training)
    state = State(strategy.trained, optimiser, learner.training, learner.group)
    if learner.training.prune:
        state.pruning = Pruning(learner.training.prune, len(splits.train[1]), device)
    step = _train_step(learner, state, splits.train[1], device)
    return Epochs(learner, strategy, state, step, bar, checkpoints)


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
