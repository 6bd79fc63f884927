"""A frozen body sees every row once: its features are kept, and the head trains on them.

Legend: N rows of a split, B rows of a batch, D feature width, V views of a row.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrainer.errors import SettingError
from retrainer.models._network import Network
from retrainer.settings import Compute, Training
from retrainer.training._fold import folded
from retrainer.training.compute import autocast
from retrainer.training.learner import Learner
from retrainer.training.loader import Batch, Rows, evaluation_batch_size, load_batches, sorted_batches, stream

# So many rows tell whether the task augments at all.
_PROBE_ROWS = 64


def embed(learner: Learner, train: Rows, validation: Rows | None) -> tuple[Rows, Rows | None]:
    """The same rows with features as their input.

    The body is in eval mode, so that no statistic of it moves. With `cached_views` above 1 that many
    augmented views of each training row are embedded, each view with a seed of its own, and every step
    draws one; else rows are embedded as they are. Each process of the group embeds its share. Raises
    UserError when the task augments nothing.

    `learner.on_features` gets the training rows' features where `Predictor.features` of the trained model
    would make the same, but for rounding: the body stays frozen, no row is augmented, and a CPU computes in
    float32.
    """
    network, training, group = learner.network, learner.training, learner.group
    network.eval()
    views: list[torch.Generator | None] = [None]
    if training.cached_views > 1:
        _require_augmentation(train, training)
        views = [stream(training.seed, group.seed(f"view {view}")) for view in range(training.cached_views)]
    with _quicker(network, train, training):
        made = [_features(learner, train, view) for view in views]
        if views == [None] and training.strategy == "frozen" and _as_when_scoring(learner.compute):
            learner.on_features(made[0].numpy())
        seen = _cached(train, made)
        held_out = None
        if validation is not None:
            held_out = _cached(validation, [_features(learner, validation, None)])
    return seen, held_out


def _as_when_scoring(compute: Compute) -> bool:
    return compute.device == "cpu" and compute.dtype == "float32"


def _quicker(network: Network, rows: Rows, training: Training) -> AbstractContextManager[Any]:
    if not training.fold_norms:
        return nullcontext()
    probe = np.arange(min(2, len(rows)))
    return folded(network, rows.make(probe, None))


def _features(learner: Learner, rows: Rows, view: torch.Generator | None) -> Tensor:
    """Float32 [N, D]."""
    network, group = learner.network, learner.group
    features = torch.zeros(len(rows), network.description.width, device=rows.targets.device)
    batches = sorted_batches(len(rows), evaluation_batch_size(rows), rows.lengths)
    with torch.no_grad(), autocast(learner.compute):
        for batch, _, numbers in load_batches(rows, batches[group.rank :: group.size], view):
            made = network.features(batch).float()
            features[torch.from_numpy(numbers).to(features.device)] = made
    return group.sum(features)


def _cached(rows: Rows, views: list[Tensor]) -> Rows:
    """Rows whose input is cached: in training a step draws one of the views for each of its rows."""
    features = torch.stack(views)  # [V, N, D]

    def make(wanted: np.ndarray, generator: torch.Generator | None) -> Batch:
        at = torch.from_numpy(wanted).to(features.device)
        if len(views) == 1 or generator is None:
            return {"features": features[0, at]}
        drawn = torch.randint(len(views), (len(wanted),), generator=generator)
        return {"features": features[drawn.to(at.device), at]}

    return Rows(make, rows.targets, rows.lengths, 4 * features.shape[2])


def _require_augmentation(rows: Rows, training: Training) -> None:
    probe = np.arange(min(_PROBE_ROWS, len(rows)))
    plain, augmented = rows.make(probe, None), rows.make(probe, stream(training.seed, "probe"))
    if all(torch.equal(plain[name], augmented[name]) for name in plain):
        raise SettingError(
            f"training.cached_views: {training.cached_views} views of a row would be the same, as the task"
            " augments nothing; leave it out, or set the task's augmentation (such as task.shift: 2)"
        )
