"""The given weights, untouched, as one more baseline: what training has added to them.

Of networks that write texts by themselves (`Body.generate`: Whisper, Marian, T5, …), and of tasks whose head
answers before any training (the ability `untrained`: embeddings). Any other head says nothing before that.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer import extend
from retrainer.errors import UserError
from retrainer.evaluation.since import SCRATCH, settings_of
from retrainer.formats.columns import picked
from retrainer.models import reads_weights
from retrainer.settings import Backbone, Task, Training
from retrainer.tasks import make_task
from retrainer.tasks._protocol import Baseline, Baselines, Judged

if TYPE_CHECKING:
    from retrainer.predict import Predictor

NAME, TITLE = "given_weights", "the given weights, untouched"
# Of training rows, from which what the task takes from validation rows otherwise is taken.
_MOST_ROWS = 1000


def with_given_weights(baselines: Baselines, model: Path, judged: Judged) -> Baselines:
    """`baselines` and the weights that the model started from, where these can answer; else why not.

    `evaluation.baseline: false` leaves them out too.
    """
    if not (judged.evaluation.baseline and _answers(judged)):
        return baselines
    sections = settings_of(model)
    training = Training.parse(sections["training"], "training")
    backbone = Backbone.parse(sections["backbone"], "backbone")
    if training.strategy == SCRATCH or not reads_weights(backbone, training):
        return baselines
    try:
        found = _baseline(Task.parse(sections["task"], "task"), backbone, training, judged)
    except UserError as error:  # a hub that this machine does not reach
        why = f"the given weights, untouched, are left out ({error})"
        return replace(baselines, missing="; ".join(filter(None, [baselines.missing, why])))
    return replace(baselines, found=(*baselines.found, found))


def _answers(judged: Judged) -> bool:
    """Whether a network of this task and family answers before any training."""
    writes = judged.predictor.network.description.generate is not None
    return writes or "untrained" in judged.predictor.task.abilities


def _baseline(section: Task, backbone: Backbone, training: Training, judged: Judged) -> Baseline:
    predictor, note = _predictor(section, backbone, training, judged)
    return Baseline(NAME, TITLE, predictor.judge(judged.test), 0, note)


def _evenly(rows: int) -> np.ndarray:
    """At most so many row numbers, evenly from all."""
    return np.unique(np.linspace(0, rows - 1, min(rows, _MOST_ROWS)).astype(np.int64))


def _predictor(
    section: Task, backbone: Backbone, training: Training, judged: Judged
) -> tuple[Predictor, str]:
    """The network as a training would begin with it, and what must be known of it."""
    from retrainer.models._network import Network
    from retrainer.predict import Predictor
    from retrainer.services import weights

    task = make_task(section, judged.predictor.labels)
    task.learn(judged.train)
    start = weights.fetch(backbone)
    family: Any = extend.load("models", backbone.family, "backbone.family")
    options, note = family.Options.parse(backbone.options, "backbone"), ""
    if hasattr(family, "untouched"):
        options, note = family.untouched(options, start)
    body = family.build(options, task.input_spec(), start, training.seed, False)
    network = Network(body, task.head(body, training)).eval()
    predictor = Predictor(network, task, str(judged.predictor.device), "")
    if hasattr(task, "settle"):
        # To a network that was not trained on them the training rows are as new as any.
        some = picked(judged.train, _evenly(len(judged.train)))
        task.settle(network, predictor.predict(some), task.targets(some))
    return predictor, note
