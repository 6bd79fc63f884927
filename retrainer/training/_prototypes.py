"""A head of prototypes: no epochs, but the features of the training rows, read once, and their means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from retrainer.errors import SettingError
from retrainer.tasks._heads import PrototypeHead
from retrainer.training.embedding import embed
from retrainer.training.learner import Learner, Splits
from retrainer.training.loader import Rows
from retrainer.training.strategies import placed_rows


def has_prototypes(learner: Learner) -> bool:
    return isinstance(learner.network.head, PrototypeHead)


def fit_prototypes(
    learner: Learner, splits: Splits, device: torch.device, on_epoch: Callable[[int, dict[str, float]], None]
) -> list[dict[str, Any]]:
    """Sets the head from the training rows; returns the history, of one entry. The network is on `device`.

    Raises SettingError for a strategy that would train the body, and for views, of which there is one.
    """
    training, head = learner.training, learner.network.head
    if training.strategy != "frozen" or training.cached_views > 1:
        key = "strategy" if training.strategy != "frozen" else "cached_views"
        raise SettingError(
            f"training.{key}: task.head: prototypes is the mean of what a frozen body makes of each row as it"
            f" is; {'set frozen' if key == 'strategy' else 'leave it out'}, or set task.head: linear"
        )
    train, validation = (
        None if data is None else placed_rows(learner.task, data, learner.network, device) for data in splits
    )
    assert train is not None
    train, validation = embed(learner, train, validation)
    assert isinstance(head, PrototypeHead)
    with torch.no_grad():
        head.learn(_features(train), train.targets)
        figures = {"train_loss": _means(learner, train)["loss"]}
        if validation is not None:
            found = _means(learner, validation)
            figures |= {f"validation_{name}": value for name, value in found.items()}
    on_epoch(1, figures)
    return [{"epoch": 1, **figures, "kept": True}]


def _features(rows: Rows) -> torch.Tensor:
    """Float32 [N, D]."""
    return rows.make(np.arange(len(rows)), None)["features"]


def _means(learner: Learner, rows: Rows) -> dict[str, float]:
    """The loss, and the task's own figures, over the rows."""
    outputs = learner.network.head(_features(rows))
    values = {"loss": learner.task.loss(outputs, rows.targets, 0.0).double().cpu().numpy()}
    values |= learner.task.figures(outputs, rows.targets)
    return {name: float(one.mean()) for name, one in values.items()}
