"""Training: fits one model to the dataset. Tracking watches; it never changes the model."""

from __future__ import annotations

from retrainer.contract import InDataset, Metadata, OutModel
from retrainer.settings import Backbone, Compute, Task, Training


def train(
    dataset: InDataset, model: OutModel, task: Task, backbone: Backbone, training: Training, compute: Compute
) -> Metadata:
    """Dataset → model directory. Pure: same inputs, settings, lock and CPU type give the same bytes."""
    from retrainer.formats.files import content_digest
    from retrainer.models import reads_weights
    from retrainer.services import weights
    from retrainer.services.checkpoint_store import checkpoint_place
    from retrainer.services.tracking import TrainRun
    from retrainer.training._stop import Stop
    from retrainer.training.compute import resolve_compute
    from retrainer.training.train import train_model

    compute = resolve_compute(compute)
    sections = {"task": task, "backbone": backbone, "training": training, "compute": compute}
    place = None if training.command else checkpoint_place()
    start = weights.fetch(backbone) if reads_weights(backbone, training) else None
    plain = {name: section.plain() for name, section in sections.items()}
    with Stop() as stop, TrainRun(plain, dataset) as run:
        made = train_model(
            dataset, model, task, backbone, training, compute, start, run.epoch, place=place, stop=stop
        )
        run.finish(made["model_sha256"])
    return {"model": made | {"dataset_sha256": content_digest(dataset)}}
