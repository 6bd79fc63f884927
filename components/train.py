"""Training: fits one model to the dataset. Tracking watches; it never changes the model."""

from __future__ import annotations

from functools import partial

from retrainer.contract import InDataset, Metadata, OutModel
from retrainer.settings import Backbone, Compute, Task, Training


def train(
    dataset: InDataset, model: OutModel, task: Task, backbone: Backbone, training: Training, compute: Compute
) -> Metadata:
    """Dataset → model directory. Pure: same inputs, settings, lock and CPU type give the same bytes.

    Of several processes that torchrun has started, the first one does all this; the others help it to fit.
    """
    from retrainer.services.meter import Meter, gpus_of

    meter = Meter()  # before the imports that take seconds
    from retrainer.formats.files import content_digest
    from retrainer.messages import logger
    from retrainer.models import reads_weights
    from retrainer.services import weights
    from retrainer.services.checkpoint_store import checkpoint_place
    from retrainer.services.expected_cost import expected
    from retrainer.services.kept_features import KeptFeatures
    from retrainer.services.torchrun import launched
    from retrainer.services.training_run import TrainRun
    from retrainer.training._stop import Stop
    from retrainer.training.compute import resolve_compute
    from retrainer.training.inputs import Inputs, Settings
    from retrainer.training.train import Session, train_model

    compute = resolve_compute(compute)
    settings, group = Settings(task, backbone, training, compute), launched()
    if group is not None:
        group.require(settings)
    start = weights.fetch(backbone) if reads_weights(backbone, training) else None
    inputs, join = Inputs(dataset, settings, start), None
    meter.hold(gpus_of(compute, group))
    if group is not None:
        from retrainer.training._torchrun import first, follow

        if group.rank:
            follow(group, inputs, meter)
            return {}
        join = partial(first, group, meter)
    place = None if training.command else checkpoint_place()
    with Stop() as stop, TrainRun(settings.plain(), dataset, meter) as tracked:
        if cost := expected(settings.plain(), inputs.data.manifest["rows"]):
            logger("train").info("%s", cost)
        features = KeptFeatures(place.directory if place else None)
        made = train_model(inputs, model, Session(tracked.epoch, True, place, stop, join, features.take))
        features.keep(made["model_sha256"])
        tracked.finish(made["model_sha256"], code_sha256=inputs.code_sha256)
    return {"model": made | {"dataset_sha256": content_digest(dataset)}}
