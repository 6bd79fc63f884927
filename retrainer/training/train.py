"""From a dataset directory to a model directory. Heavy imports wait until they are needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retrainer import extend
from retrainer.errors import SettingError, UserError
from retrainer.formats.dataset import Dataset
from retrainer.formats.files import whole_directory
from retrainer.settings import Backbone, Compute, Task, Training
from retrainer.tasks import make_task
from retrainer.training._command import run_command

if TYPE_CHECKING:
    import pyarrow as pa

    from retrainer.models._network import Network
    from retrainer.tasks._protocol import Task as TaskObject
    from retrainer.training._distributed import Group
    from retrainer.training._stop import Stop
    from retrainer.training.checkpoints import Place
    from retrainer.training.strategies import Data

OnEpoch = Callable[[int, dict[str, float]], None]
# From resolved compute and the inputs' digest to the group that this process is the first of.
Join = Callable[[Compute, str], "AbstractContextManager[Group]"]


class Settings(NamedTuple):
    """The sections that training reads."""

    task: Task
    backbone: Backbone
    training: Training
    compute: Compute

    @classmethod
    def parse(cls, plain: dict[str, dict[str, Any]]) -> Settings:
        return cls(
            Task.parse(plain["task"], "task"),
            Backbone.parse(plain["backbone"], "backbone"),
            Training.parse(plain["training"], "training"),
            Compute.parse(plain["compute"], "compute"),
        )

    def plain(self) -> dict[str, dict[str, Any]]:
        return {name: section.plain() for name, section in self._asdict().items()}


def train_model(
    dataset: Path,
    out: Path,
    task: Task,
    backbone: Backbone,
    training: Training,
    compute: Compute,
    weights: Path | str | None,
    on_epoch: OnEpoch,
    progress: bool = True,
    place: Place | None = None,
    stop: Stop | None = None,
    join: Join | None = None,
) -> dict[str, Any]:
    """Fits a model to the splits `train` and `validation` and writes it to `out`, whole or not at all.

    With a `place` for checkpoints it goes on from where a killed run of the same inputs was, and makes the
    same bytes. After a signal that `stop` has taken it writes one and leaves. A run that its budget ended
    returns `reproducible`: False, and must not be restored from a cache.

    Further processes are started here; where something else has started them with this one, their first,
    `join` makes them one group.

    `compute` is resolved. `weights` is what the family starts from; `scratch` takes no more of them than
    their architecture, and needs none where the settings tell that. Returns `model_sha256` and, but for a
    user's own trainer, the kept epoch's figures. Raises UserError for anything in the settings or the data
    that makes training impossible.
    """
    data = Dataset(dataset)
    settings = Settings(task, backbone, training, compute)
    _check(data, training, weights)
    if training.command:
        return _train_elsewhere(data, out, settings)
    return _train_here(data, out, settings, weights, on_epoch, progress, place, stop, join)


def _check(data: Dataset, training: Training, weights: Path | str | None) -> None:
    if not data.manifest["rows"].get("train"):
        raise UserError(
            f"{data.path} has no training rows; lower split.test and split.validation, or add data"
        )
    if training.strategy != "scratch" and weights is None and not training.command:
        raise SettingError(
            f"training.strategy: {training.strategy} starts from weights, and backbone.weights is none; "
            "set training.strategy: scratch, or give backbone.weights"
        )


def _train_elsewhere(data: Dataset, out: Path, settings: Settings) -> dict[str, Any]:
    """The user's own trainer writes the model directory; sealing checks that it is a whole model."""
    from retrainer.formats.model import copy_row_keys, seal

    with whole_directory(out) as aside:
        run_command(settings.training.command, data.path, aside, settings.plain())
        copy_row_keys(data.path, aside)
        return {"model_sha256": seal(aside, settings.plain(), data.content_sha256)}


def _train_here(
    data: Dataset,
    out: Path,
    settings: Settings,
    weights: Path | str | None,
    on_epoch: OnEpoch,
    progress: bool,
    place: Place | None,
    stop: Stop | None,
    join: Join | None,
) -> dict[str, Any]:
    from retrainer.formats.model import write_model
    from retrainer.training._distributed import processes
    from retrainer.training._inputs import inputs_digest
    from retrainer.training.calibration import calibrate
    from retrainer.training.checkpoints import Checkpoints
    from retrainer.training.loop import fit

    digest = inputs_digest(data, settings.plain(), weights) if place or join else ""
    checkpoints = Checkpoints(place, digest, stop)
    task, backbone, training, compute = settings
    job, network, table = prepare(data, settings, weights)
    together = processes(compute, _shared(data, settings, weights)) if join is None else join(compute, digest)
    with together as group:
        train, validation = encode(table, job, network), read_validation(data, job, network)
        around = (on_epoch, progress, checkpoints, group)
        history = fit(network, job, train, validation, training, compute, *around)
    temperature = calibrate(network, job, validation, training, compute)
    model_sha256 = write_model(
        out,
        network,
        family=backbone.family,
        task=task,
        labels=job.labels,
        sections=settings.plain(),
        dataset_sha256=data.content_sha256,
        history=history,
        temperature=temperature,
        dataset=data.path,
    )
    checkpoints.clear()
    kept = next(entry for entry in history if entry["kept"])
    figures = {name: value for name, value in kept.items() if name not in ("kept", "reproducible")}
    marks = {} if history[-1].get("reproducible", True) else {"reproducible": False}
    return {"model_sha256": model_sha256, "temperature": temperature, **figures, **marks}


def _shared(data: Dataset, settings: Settings, weights: Path | str | None) -> dict[str, Any]:
    """What further processes are started with, as JSON."""
    here = {"directory": str(weights), "weights": None} if isinstance(weights, Path) else {"weights": weights}
    return {"dataset": str(data.path), "sections": settings.plain(), "directory": "", **here}


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


def prepare(
    data: Dataset, settings: Settings, weights: Path | str | None
) -> tuple[TaskObject, Network, pa.Table]:
    """The task, its network before any training, and the training rows, from which both may have learned."""
    task = make_task(settings.task, data.labels)
    table = data.split("train", _columns(task))
    task.learn(table)
    return task, build_network(task, settings.backbone, settings.training, weights), table


def read_validation(data: Dataset, task: TaskObject, network: Network) -> Data | None:
    """The validation rows, encoded, and their targets; None where there are none."""
    if not data.manifest["rows"].get("validation"):
        return None
    return encode(data.split("validation", _columns(task)), task, network)


def encode(table: pa.Table, task: TaskObject, network: Network) -> Data:
    """Rows, encoded for the network's body, and their targets."""
    body = network.description
    return task.encode(table, body.preprocessing, body.assets), task.targets(table)


def _columns(task: TaskObject) -> list[str]:
    return [*task.input_columns, *task.target_columns, "origin"]
