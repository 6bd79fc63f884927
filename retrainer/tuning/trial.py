"""One trial: a training by other settings than the recipe's, in a process that runs trials one after another.

The process that tunes sends this one a `Job` through a pipe. After each epoch this one sends back the figures
and waits for the answer, whether to prune the trial; in the end it sends the `Outcome`. A trial writes its
checkpoints and its run in MLflow, and no model.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import Diverged, SettingError, UserError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from retrainer.training.inputs import Inputs
    from retrainer.training.train import Session

# What became of a trial.
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
# What a worker sends.
EPOCH, OUTCOME, ERROR = "epoch", "outcome", "error"

Figures = Mapping[str, float]
# Gets the number of an epoch and its figures; answers whether the trial shall end early.
ShouldPrune = Callable[[int, Figures], bool]


@dataclass(frozen=True)
class Job:
    """What one trial needs: the resolved `sections` that it trains by, `figure`, the name in the history of
    what trials are compared by, and `parent`, the id of the tuning's run in MLflow."""

    number: int
    sections: Mapping[str, Mapping[str, Any]]
    dataset: Path
    weights: Path | str | None
    figure: str
    parent: str


@dataclass(frozen=True)
class Outcome:
    """`value`: the figure that trials are compared by, of the epoch whose weights training keeps; None where
    the trial did not come to its end."""

    state: str
    value: float | None = None
    note: str = ""
    run_id: str = ""


class _Pruned(Exception):
    """The trial is worse than others were at this epoch."""


def serve(connection: Connection) -> None:
    """Runs the jobs that the process which started this one sends, until that closes the pipe or ends."""
    _end_with_parent()
    try:
        while True:
            connection.send(_answer(connection.recv(), connection))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


def _answer(job: Job, connection: Connection) -> tuple[str, Any]:
    def should_prune(epoch: int, figures: Figures) -> bool:
        connection.send((EPOCH, (epoch, dict(figures))))
        return bool(connection.recv())

    try:
        return OUTCOME, train_trial(job, should_prune)
    except UserError as error:
        return ERROR, str(error)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(143)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def train_trial(job: Job, should_prune: ShouldPrune) -> Outcome:
    """Trains by the job's settings. Raises UserError for what would end every other trial too."""
    from retrainer.services.checkpoint_store import checkpoint_place
    from retrainer.services.meter import Meter, gpus_of
    from retrainer.services.training_run import TrainRun, Trial
    from retrainer.training._stop import Stop
    from retrainer.training.inputs import Inputs, Settings
    from retrainer.training.train import Session

    meter = Meter()
    try:
        settings = Settings.parse({name: dict(section) for name, section in job.sections.items()})
    except SettingError as error:  # values that are each allowed, and not together
        return Outcome(FAILED, note=str(error))
    meter.hold(gpus_of(settings.compute, None))
    inputs = Inputs(job.dataset, settings, job.weights)
    about = Trial(job.parent, f"trial {job.number}", {"retrainer.trial": str(job.number)})
    with Stop() as stop, TrainRun(settings.plain(), job.dataset, meter, about) as tracked:

        def on_epoch(epoch: int, figures: dict[str, float]) -> None:
            tracked.epoch(epoch, figures)
            if should_prune(epoch, figures):
                raise _Pruned(f"after epoch {epoch}")

        outcome = _fitted(inputs, job.figure, Session(on_epoch, place=checkpoint_place(), stop=stop))
        tracked.tag(**{"retrainer.state": outcome.state, "retrainer.note": outcome.note})
        if outcome.value is not None:
            tracked.epoch(0, {"tune.value": outcome.value})
    return replace(outcome, run_id=tracked.run_id or "")


def _fitted(inputs: Inputs, figure: str, session: Session) -> Outcome:
    import torch

    from retrainer.training.checkpoints import Checkpoints
    from retrainer.training.train import fit_inputs

    try:
        fitted = fit_inputs(inputs, session)
    except (_Pruned, Diverged, torch.OutOfMemoryError) as error:
        Checkpoints(session.place, inputs.digest()).clear()
        if isinstance(error, torch.OutOfMemoryError):
            return Outcome(FAILED, note="the device's memory is too small for it")
        return Outcome(PRUNED if isinstance(error, _Pruned) else FAILED, note=str(error))
    fitted.checkpoints.clear()
    kept = next(entry for entry in fitted.history if entry["kept"])
    return Outcome(COMPLETE, float(kept[figure]))
