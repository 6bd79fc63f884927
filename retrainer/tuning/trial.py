"""One trial: the fit loop by other settings, in a process that does one after the other.

The process that tunes sends jobs through a pipe and gets back the figures of each epoch, to which it answers
whether the trial shall end, and then the outcome. Nothing is written but checkpoints and the trial's run.
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
# Gets the number of an epoch and its figures; answers whether the trial shall end.
Ends = Callable[[int, Figures], bool]


@dataclass(frozen=True)
class Job:
    """`sections` are resolved; `figure`: of the history, which is sought; `parent`: the tuning's run."""

    number: int
    sections: Mapping[str, Mapping[str, Any]]
    dataset: Path
    weights: Path | str | None
    figure: str
    parent: str


@dataclass(frozen=True)
class Outcome:
    """`value`: the figure that is sought, of the epoch that training keeps; None where there is none."""

    state: str
    value: float | None = None
    note: str = ""
    run_id: str = ""


class _Ended(Exception):
    """The trial is worse than others at this epoch."""


def serve(connection: Connection) -> None:
    """Does the jobs of the process that started this one, until it sends None or ends."""
    _end_with_parent()
    try:
        while (job := connection.recv()) is not None:
            connection.send(_answer(job, connection))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


def _answer(job: Job, connection: Connection) -> tuple[str, Any]:
    def ends(epoch: int, figures: Figures) -> bool:
        connection.send((EPOCH, (epoch, dict(figures))))
        return bool(connection.recv())

    try:
        return OUTCOME, train_trial(job, ends)
    except UserError as error:
        return ERROR, str(error)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(143)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def train_trial(job: Job, ends: Ends) -> Outcome:
    """Trains by the job's settings. Raises UserError for what no other settings would mend."""
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
            if ends(epoch, figures):
                raise _Ended(f"after epoch {epoch}")

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
    except (_Ended, Diverged, torch.OutOfMemoryError) as error:
        Checkpoints(session.place, inputs.digest()).clear()
        if isinstance(error, torch.OutOfMemoryError):
            return Outcome(FAILED, note="the device's memory is too small for it")
        return Outcome(PRUNED if isinstance(error, _Ended) else FAILED, note=str(error))
    fitted.checkpoints.clear()
    kept = next(entry for entry in fitted.history if entry["kept"])
    return Outcome(COMPLETE, float(kept[figure]))
