"""Trainings that are stopped and go on: of pictures and of sentences, compared by their bytes."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable
from typing import Any

from torch import Tensor

from retrainer.models._network import Network
from retrainer.settings import Backbone, Compute, Task, Training
from retrainer.tasks import text_classification
from retrainer.training._stop import Stop
from retrainer.training.checkpoints import Checkpoints
from retrainer.training.compute import resolve_compute
from retrainer.training.learner import Learner, Splits
from retrainer.training.loop import fit
from tests.small_networks import (
    EVERY_DRAW,
    PLAIN,
    convolutional,
    image_task,
    network,
    reader,
    sentences,
    settings,
    squares,
    weights,
)

HALF = resolve_compute(Compute(device="cpu", dtype="bfloat16", threads=1))
TASK = Task(kind="image_classification", size=8, channels=1, **EVERY_DRAW)
MLP = Backbone(family="mlp", hidden=(8,))
DIGEST = "d" * 64
RICH = {"epochs": 4, "dropout": 0.3, "label_smoothing": 0.1, "learning_rate": 0.05}
# Nobody waits so long: what is written is written for a signal.
NEVER = 1000.0


class Counted:
    """A task that does something of the test's before its n-th loss, in training or in validation."""

    def __init__(self, task: Any, at: int, then: Callable[[], None]) -> None:
        self._task, self._left, self._then = task, at, then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def loss(self, *inputs: Any) -> Tensor:
        self._left -= 1
        if self._left == 0:
            self._then()
        return self._task.loss(*inputs)


def images(batch_size: int = 16, **changes: Any) -> Case:
    rows = squares(150), squares(140, 1)
    task = image_task(**EVERY_DRAW)
    return Case(
        lambda: network(dropout=0.3), task, settings(**RICH | {"batch_size": batch_size} | changes), rows
    )


def large_images() -> Case:
    """An epoch's rows are made in two goes, each of which draws its views."""
    splits = squares(100), squares(20, 1)
    for rows, _ in splits:
        object.__setattr__(rows, "images", rows.images.repeat_interleave(16, 2).repeat_interleave(16, 3))
    return Case(convolutional, image_task(shift=20, flip=True), settings(**RICH | {"epochs": 2}), splits)


def norms(**changes: Any) -> Case:
    """A convolutional network with BatchNorm and augmented images."""
    plan = settings(**RICH | {"learning_rate": 0.02} | changes)
    return Case(lambda: convolutional(0.3), image_task(**EVERY_DRAW), plan, (squares(90), squares(40, 1)))


def growing(**changes: Any) -> Case:
    case = norms(**changes)
    for rows, _ in case.rows:
        object.__setattr__(rows, "images", rows.images.repeat_interleave(3, 2).repeat_interleave(3, 3))
    return case


def texts(**changes: Any) -> Case:
    task = text_classification.make(Task(), ("a", "b"))
    plan = settings(**RICH | {"strategy": "full", "batch_size": 4, "backbone_learning_rate": 0.02} | changes)
    return Case(reader, task, plan, (sentences(150), sentences(150, 1)))


class Case:
    def __init__(self, build: Callable[[], Network], task: Any, plan: Training, rows: Any) -> None:
        self.build, self.task, self.plan, self.rows = build, task, plan, rows
        self.compute = PLAIN

    def run(self, checkpoints: Checkpoints | None = None, task: Any = None) -> tuple[dict[str, Tensor], Any]:
        """Weights and history."""
        learner = self.learner(task)
        history = fit(learner, Splits(*self.rows), checkpoints=checkpoints)
        return weights(learner.network), history

    def learner(self, task: Any = None) -> Learner:
        return Learner(self.build(), task or self.task, self.plan, self.compute)

    def stopped(self, place: Any, after_losses: int) -> Any:
        """None when it was stopped, else what `run` gives."""
        try:
            with Stop() as stop:
                return self.run(Checkpoints(place, DIGEST, stop), Counted(self.task, after_losses, sigterm))
        except SystemExit as leaving:
            assert leaving.code == 143
            return None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def sigterm() -> None:
    signal.raise_signal(signal.SIGTERM)
