"""Keys of `training:` that a task, a backbone or the data cannot serve: said before the first step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrainer.errors import SettingError
from retrainer.models._network import Network
from retrainer.settings import Training
from retrainer.settings.privacy import require_private
from retrainer.training.learner import Learner, Splits
from retrainer.training.mixing import resize

# The key, the value by which it is off, the task's ability that it needs, and that in words.
_KEYS_OF_ABILITIES: tuple[tuple[str, Any, str, str], ...] = (
    ("label_smoothing", 0.0, "label_smoothing", "a loss over classes"),
    ("balance", "none", "class_balance", "one class a row"),
    ("mixup", 0.0, "mixing", "images that can be blended along with their classes"),
    ("cutmix", 0.0, "mixing", "images that can be blended along with their classes"),
    ("start_size", 1.0, "resizing", "images that can be made smaller"),
    ("cached_views", 1, "features", "one vector of features a row"),
)


def require_applicable(learner: Learner, splits: Splits) -> None:
    """Raises UserError naming the key and the cure."""
    network, task, training = learner.network, learner.task, learner.training
    for key, off, ability, needed in _KEYS_OF_ABILITIES:
        if getattr(training, key) != off and ability not in task.abilities:
            raise SettingError(f"training.{key} needs {needed}, which this task does not have; leave it out")
    if network.description.opaque:
        _require_untouched(learner)
    if training.packing:
        _require_texts(learner)
    if training.privacy.epsilon:
        _require_private(learner, len(splits.train[1]))
    if learner.compute.fsdp:
        _require_shareable(learner)
    if training.start_size < 1:
        _require_any_size(network, task.batch(splits.train[0], np.arange(1), None)["pixels"], training)
    if training.patience and splits.validation is None:
        raise SettingError(
            "training.patience: the validation loss decides, and the dataset has no validation rows;"
            " set split.validation, or leave it out"
        )
    if training.prune:
        _require_prunable(learner)
    norms = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.body.modules())
    if training.halve_on_out_of_memory and norms and training.strategy != "frozen":
        raise SettingError(
            "training.halve_on_out_of_memory: this backbone has BatchNorm, whose statistics depend on the"
            " parts; set a smaller training.batch_size or a higher training.accumulate"
        )


def _require_untouched(learner: Learner) -> None:
    """Raises UserError for what looks into the layers of a network, of one whose layers are not PyTorch's."""
    training, compute = learner.training, learner.compute
    trains_body = training.strategy != "frozen"
    for key, asked in (
        ("training.strategy: lora", training.strategy == "lora"),
        ("training.optimizer: muon", training.optimizer == "muon" and trains_body),
        ("training.privacy", bool(training.privacy.epsilon) and trains_body),
        ("training.checkpoint_activations", training.checkpoint_activations),
        ("training.halve_on_out_of_memory", training.halve_on_out_of_memory and trains_body),
        ("compute.fsdp", compute.fsdp),
        ("compute.compile", compute.compile in (True, "kernels")),
    ):
        if asked:
            raise SettingError(
                f"{key}: for networks of PyTorch's own layers, and this backbone's are Keras'; leave it out"
                + (", or set training.strategy: frozen" if "privacy" in key else "")
            )


def _require_texts(learner: Learner) -> None:
    """Raises UserError where there are no texts to pack, or where each row must stand by itself."""
    kind = learner.network.description.preprocessing["kind"]
    if kind not in ("tokens", "causal_text"):
        raise SettingError(
            f"training.packing: for tasks that read texts alone, and this backbone reads {kind}; leave it out"
        )
    if learner.training.privacy.epsilon:
        raise SettingError(
            "training.packing: training.privacy needs the gradient of every single row, which a row of"
            " several texts does not give; leave packing out"
        )


def _require_shareable(learner: Learner) -> None:
    """Raises UserError for what processes would do at different times, or without the network's weights."""
    training = learner.training
    if not learner.network.description.width:
        raise SettingError(
            "compute.fsdp: a whole detector runs a part of itself in its loss, where weights that processes"
            " share are not gathered; leave fsdp out"
        )
    if training.strategy in ("frozen", "head-then-full"):
        raise SettingError(
            f"compute.fsdp: training.strategy: {training.strategy} trains a head on features, each process"
            " embeds its own rows, and little memory is saved; leave fsdp out, or set lora, last-n or full"
        )
    if training.optimizer != "adamw":
        raise SettingError(
            f"training.optimizer: {training.optimizer} moves whole weights, of which processes that share"
            " them (compute.fsdp) hold parts; set adamw, or leave fsdp out"
        )
    if training.halve_on_out_of_memory:
        raise SettingError(
            "training.halve_on_out_of_memory: processes that share weights (compute.fsdp) must take the same"
            " parts, and one that runs out of memory cannot tell the others; set a higher training.accumulate"
        )


def _require_prunable(learner: Learner) -> None:
    """Raises UserError for what would need every row's loss, or every row, in each epoch."""
    training = learner.training
    if learner.compute.processes > 1:
        raise SettingError("compute.processes: training.prune knows the losses of one process; set 1")
    for key, off in (("balance", "none"), ("mixup", 0.0), ("cutmix", 0.0)):
        if getattr(training, key) != off:
            raise SettingError(f"training.{key}: training.prune chooses rows itself; leave one of them out")
    if training.privacy.epsilon:
        raise SettingError(
            "training.prune: which rows are left out depends on them, so the training would not"
            " be private; leave it out"
        )
    if training.strategy == "head-then-full":
        raise SettingError("training.prune: head-then-full has epochs of two kinds; leave one of them out")


def _require_private(learner: Learner, rows: int) -> None:
    """Raises UserError for what would make epsilon false, of the settings, the task or the number of rows."""
    from retrainer.training._privacy_budget import Budget

    require_private(learner.training)
    if "privacy" not in learner.task.abilities:
        raise SettingError(
            "training.privacy needs a task that learns nothing from the training rows but weights; this one"
            " takes a scale, a vocabulary, or more from them; leave it out"
        )
    if learner.compute.processes > 1:
        raise SettingError("compute.processes: training.privacy trains in one process; set 1")
    if learner.compute.compile in (True, "kernels"):
        raise SettingError("compute.compile: training.privacy trains uncompiled; leave it out")
    Budget.of(learner.training, rows)


def _require_any_size(network: Network, pixels: Tensor, training: Training) -> None:
    """One small image tells."""
    training_mode = network.training
    network.eval()
    try:
        with torch.no_grad():
            network.features({"pixels": resize(pixels, training.start_size)})
    except Exception:  # a foreign architecture fails in its own ways
        raise SettingError(
            "training.start_size: this backbone takes images of one size; leave it out, or choose a"
            " convolutional one"
        ) from None
    finally:
        network.train(training_mode)
