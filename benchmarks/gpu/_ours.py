"""This project: `fit`, its tasks and model families as they are, on rows that are already encoded."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import torch

from benchmarks.gpu._jobs import MEAN, STD, Job, bert_config, images, targets, token_ids
from benchmarks.gpu._measure import Speed, Window
from retrainer.models import torchvision, transformers
from retrainer.models._network import Network
from retrainer.settings import Compute, Task, Training
from retrainer.tasks import image_classification, text_classification
from retrainer.tasks._pixels import Pixels
from retrainer.tasks._tokens import Tokens
from retrainer.training.compute import resolve_compute
from retrainer.training.learner import Learner, Splits
from retrainer.training.loop import fit


class Enough(Exception):
    """Ends `fit` from its callback."""


def train(job: Job, budget: float, seed: int, compile: bool | str = False, profiled: bool = False) -> Speed:
    """Epochs until `budget` seconds of them are measured; the first one warms up."""
    window = Window(budget, profiled=profiled)
    network, task, rows = (_pixels if job.kind == "pixels" else _tokens)(job, seed)
    plan = {"strategy": "scratch", "epochs": 100_000, "batch_size": job.batch, "learning_rate": 1e-4}

    def seen(epoch: int, figures: dict[str, float]) -> None:  # noqa: ARG001
        if window.passed(job.rows):
            raise Enough

    compute = resolve_compute(Compute.parse({"compile": compile}, "compute"))
    training = Training.parse(plan | {"seed": seed}, "training")
    with suppress(Enough):
        fit(Learner(network, task, training, compute), Splits((rows, targets(job, seed))), seen)
    assert window.speed is not None
    return window.speed


def train_compiled(job: Job, budget: float, seed: int, profiled: bool = False) -> Speed:
    return train(job, budget, seed, True, profiled)


def train_kernels(job: Job, budget: float, seed: int, profiled: bool = False) -> Speed:
    return train(job, budget, seed, "kernels", profiled)


def train_written(job: Job, budget: float, seed: int, profiled: bool = False) -> Speed:
    return train(job, budget, seed, False, profiled)


def _labels(job: Job) -> tuple[str, ...]:
    return tuple(f"{number:04}" for number in range(job.classes))


def _pixels(job: Job, seed: int) -> tuple[Network, Any, Pixels]:
    section = Task.parse({"kind": "image_classification", "size": job.side, "flip": True}, "task")
    task = image_classification.make(section, _labels(job))
    body = torchvision.build(
        torchvision.Options(name=job.network, stem="own"), task.input_spec(), None, seed, fresh=True
    )
    torch.manual_seed(seed)
    return (
        Network(body, task.head(body, Training.parse({}, "training"))),
        task,
        Pixels(images(job, seed), MEAN, STD),
    )


def _tokens(job: Job, seed: int) -> tuple[Network, Any, Tokens]:
    section = Task.parse({"kind": "text_classification", "max_length": job.side}, "task")
    config = bert_config(job)
    described = {"input": "tokens", "pooling": "cls", "pooler": False, "width": config["hidden_size"]}
    torch.manual_seed(seed)
    body = transformers.restore(described | {"model": {"model_type": "bert", **config}})
    body.preprocessing = {"kind": "tokens", "max_length": job.side, "pad_id": 0}
    ids = token_ids(job, seed)
    offsets: np.ndarray = np.arange(job.rows + 1, dtype=np.int64) * job.side
    rows = Tokens(np.append(ids.ravel(), np.int32(0)), None, offsets, pad_id=0, max_length=job.side)
    task = text_classification.make(section, _labels(job))
    return Network(body, task.head(body, Training.parse({"dropout": 0.1}, "training"))), task, rows
