"""From a dataset directory to a model directory. Heavy imports wait until they are needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retrainer import extend
from retrainer.errors import DataError, ModelError, SettingError
from retrainer.formats.files import whole_directory
from retrainer.settings import Backbone, Compute, Training
from retrainer.tasks import make_task
from retrainer.training._command import run_command
from retrainer.training.inputs import Inputs

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from retrainer.models._network import Network
    from retrainer.tasks._protocol import Task as TaskObject
    from retrainer.training._distributed import Group
    from retrainer.training._stop import Stop
    from retrainer.training.checkpoints import Checkpoints, Place
    from retrainer.training.learner import Data, Learner, Splits

OnEpoch = Callable[[int, dict[str, float]], None]
OnFeatures = Callable[["np.ndarray"], Any]
# From resolved compute and the inputs' digest to the group that this process is the first of.
Join = Callable[[Compute, str], "AbstractContextManager[Group]"]


@dataclass(frozen=True)
class Session:
    """What is around a training in this process: none of it changes the model.

    on_epoch: gets the number of an epoch, from 1, and its figures.
    progress: a bar on standard error.
    place: for checkpoints; with one, it goes on from where a killed session of the same inputs was.
    stop: has taken over the signals; after one a checkpoint is written, and the process leaves.
    join: makes one group of this process and those that something else has started with it.
    on_features: gets the training rows' features, float32 [N, D], where `embed` says so.
    """

    on_epoch: OnEpoch = lambda *_: None
    progress: bool = False
    place: Place | None = None
    stop: Stop | None = None
    join: Join | None = None
    on_features: OnFeatures = lambda _: None


def train_model(inputs: Inputs, out: Path, session: Session | None = None) -> dict[str, Any]:
    """Fits a model to the splits `train` and `validation` and writes it to `out`, whole or not at all.

    `scratch` takes no more of the weights than their architecture, and needs none where the settings tell
    that. Returns `model_sha256` and, but for a user's own trainer, the kept epoch's figures. A run that its
    budget ended returns `reproducible`: False, and must not be restored from a cache. Raises UserError for
    anything in the settings or the data that makes training impossible.
    """
    if inputs.settings.training.command:
        return _train_elsewhere(inputs, out)
    return _train_here(inputs, out, session or Session())


def _check(inputs: Inputs) -> None:
    data, training = inputs.data, inputs.settings.training
    if not data.manifest["rows"].get("train"):
        raise DataError(
            f"{data.path} has no training rows; lower split.test and split.validation, or add data"
        )
    if training.strategy != "scratch" and inputs.weights is None and not training.command:
        raise SettingError(
            f"training.strategy: {training.strategy} starts from weights, and backbone.weights is none; "
            "set training.strategy: scratch, or give backbone.weights"
        )


def _train_elsewhere(inputs: Inputs, out: Path) -> dict[str, Any]:
    """The user's own trainer writes the model directory, which is checked and sealed."""
    from retrainer.formats.model import seal
    from retrainer.formats.row_keys import hand_down_row_keys
    from retrainer.training._own_model import require_usable

    _check(inputs)
    data, sections = inputs.data, inputs.settings.plain()
    with whole_directory(out) as aside:
        run_command(inputs.settings.training.command, data.path, aside, sections)
        try:
            network = require_usable(aside, sections["task"], data)
            hand_down_row_keys(data.path, inputs.weights, aside)
            return {"model_sha256": seal(aside, sections, data.content_sha256, network)}
        except ModelError as error:
            # The directory is gone by the time that the message is read.
            wrong = str(error).replace(f"{aside}/", "").replace(str(aside), "its directory")
            raise ModelError(f"training.command wrote no model that can be used: {wrong}") from None


def _train_here(inputs: Inputs, out: Path, session: Session) -> dict[str, Any]:
    from retrainer.formats.model import Trained, write_model
    from retrainer.training.calibration import calibrate
    from retrainer.training.settling import settle

    settings, data = inputs.settings, inputs.data
    learner, splits, history, checkpoints = fit_inputs(inputs, session)
    temperature = calibrate(learner, splits.validation)
    settle(learner, splits.validation)
    labels = learner.task.labels
    start = None if settings.training.strategy == "scratch" else inputs.weights
    private = _privacy(settings.training, len(splits.train[1]), history, start)
    trained = Trained(learner.network, settings.backbone.family, labels, history, temperature, private)
    model_sha256 = write_model(out, trained, settings.plain(), data.content_sha256, data.path, start)
    checkpoints.clear()
    return {"model_sha256": model_sha256, "temperature": temperature, **_kept_figures(history)}


class Fitted(NamedTuple):
    """A trained learner, the encoded rows that it saw, its history, and checkpoints to be cleared."""

    learner: Learner
    splits: Splits
    history: list[dict[str, Any]]
    checkpoints: Checkpoints


def fit_inputs(inputs: Inputs, session: Session) -> Fitted:
    """Fits a network to the splits `train` and `validation`; nothing but checkpoints is written.

    What `session.on_epoch` raises ends the training. Raises UserError as `train_model` does.
    """
    from retrainer.training.checkpoints import Checkpoints
    from retrainer.training.loop import fit

    _check(inputs)
    digest = inputs.digest() if session.place or session.join else ""
    checkpoints = Checkpoints(session.place, digest, session.stop)
    learner, table = prepare(inputs)
    with _processes(inputs, digest, session.join) as group:
        splits = encode_splits(inputs, learner, table)
        here = replace(learner, group=group, on_features=session.on_features)
        history = fit(here, splits, session.on_epoch, session.progress, checkpoints)
    return Fitted(learner, splits, history, checkpoints)


def _processes(inputs: Inputs, digest: str, join: Join | None) -> AbstractContextManager[Group]:
    """Inside, this process is the first of a group: of those that `join` knows, or of its own workers."""
    from retrainer.training._distributed import processes

    compute = inputs.settings.compute
    return processes(compute, inputs.plain()) if join is None else join(compute, digest)


def _privacy(
    training: Training, rows: int, history: list[dict[str, Any]], start: Path | str | None
) -> dict[str, Any] | None:
    """What a private training of so many rows spent, and what its start spent before; None of any other."""
    if not training.privacy.epsilon:
        return None
    from retrainer.formats.privacy import with_start
    from retrainer.training._privacy_budget import Budget

    facts = Budget.of(training, rows).facts(history[-1]["updates"], training.clip_norm)
    return with_start(facts, start)


def _kept_figures(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Those of the epoch whose weights are the model's."""
    kept = next(entry for entry in history if entry["kept"])
    figures = {name: value for name, value in kept.items() if name not in ("kept", "reproducible")}
    marks = {} if history[-1].get("reproducible", True) else {"reproducible": False}
    return figures | marks


def build_network(
    task: TaskObject, backbone: Backbone, training: Training, weights: Path | str | None
) -> Network:
    """The family's body, from `weights` or at random, under a head drawn from `training.seed` alone."""
    import torch

    from retrainer.models._network import Network
    from retrainer.training.loop import own_randomness

    family = extend.load("models", backbone.family, "backbone.family")
    options = family.Options.parse(backbone.options, "backbone")
    fresh = training.strategy == "scratch"
    body = family.build(options, task.input_spec(), weights, training.seed, fresh)
    with own_randomness(training.seed, torch.device("cpu"), "head"):
        return Network(body, task.head(body, training))


def prepare(inputs: Inputs) -> tuple[Learner, pa.Table]:
    """A network before any training, and the training rows, from which it and its task may have learned."""
    from retrainer.training._examples import examples
    from retrainer.training.learner import Learner

    settings, data = inputs.settings, inputs.data
    task = make_task(settings.task, data.labels)
    table = examples(data.split("train", _columns(task)), task.target_columns, settings.training)
    task.learn(table)
    network = build_network(task, settings.backbone, settings.training, inputs.weights)
    return Learner(network, task, settings.training, settings.compute), table


def encode_splits(inputs: Inputs, learner: Learner, train: pa.Table) -> Splits:
    """The training rows, and those of the split `validation` where it has any, encoded."""
    from retrainer.training.learner import Splits

    encoded = encode(train, learner.task, learner.network)
    if not inputs.data.manifest["rows"].get("validation"):
        return Splits(encoded)
    table = inputs.data.split("validation", _columns(learner.task))
    return Splits(encoded, encode(table, learner.task, learner.network))


def encode(table: pa.Table, task: TaskObject, network: Network) -> Data:
    """Rows, encoded for the network's body, and their targets."""
    body = network.description
    return task.encode(table, body.preprocessing, body.assets), task.targets(table)


def _columns(task: TaskObject) -> list[str]:
    return [*task.input_columns, *task.target_columns, "origin"]
