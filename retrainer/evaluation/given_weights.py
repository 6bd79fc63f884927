"""The given weights, untouched, as one more baseline: what training has added to them.

Of networks that write texts by themselves (`Body.generate`: Whisper, Marian, T5, …). What has a head of this
task's own above it says nothing before that is trained.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer import extend
from retrainer.errors import UserError
from retrainer.evaluation.since import SCRATCH, settings_of
from retrainer.models import reads_weights
from retrainer.settings import Backbone, Task, Training
from retrainer.tasks import make_task
from retrainer.tasks._protocol import Baseline, Baselines, Judged

if TYPE_CHECKING:
    from retrainer.predict import Predictor

NAME, TITLE = "given_weights", "the given weights, untouched"


def with_given_weights(baselines: Baselines, model: Path, judged: Judged) -> Baselines:
    """`baselines` and the weights that the model started from, where these can answer; else why not.

    `evaluation.baseline: false` leaves them out too.
    """
    if not judged.evaluation.baseline or judged.predictor.network.description.generate is None:
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


def _baseline(section: Task, backbone: Backbone, training: Training, judged: Judged) -> Baseline:
    predictor, note = _predictor(section, backbone, training, judged)
    return Baseline(NAME, TITLE, predictor.judge(judged.test), 0, note)


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
    return Predictor(network, task, str(judged.predictor.device), ""), note
