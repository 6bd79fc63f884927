"""What is trained: everything from scratch, a new head on a frozen body, or everything from given weights.

Legend: B rows of a batch, N rows of a split, D feature width, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrainer.errors import UserError
from retrainer.models._network import Network
from retrainer.settings import Compute, Training
from retrainer.tasks._protocol import ClassificationTask, Encoded
from retrainer.training.feeder import Batch, Rows, batch_count, evaluation_batch_size, feed, sorted_batches

Data = tuple[Encoded, np.ndarray]
# Without its own rate, a pretrained body learns at this share of the head's: it has more to lose.
_BACKBONE_SHARE = 0.1


@dataclass(frozen=True)
class Plan:
    """All that the loop needs of a strategy. `trained` alone switches mode, moves and is kept or restored."""

    trained: nn.Module
    forward: Callable[[Batch], Tensor]
    groups: list[dict[str, Any]]  # of the optimiser; `peak` is the group's highest learning rate
    train: Rows
    validation: Rows | None


def plan(
    network: Network,
    task: ClassificationTask,
    train: Data,
    validation: Data | None,
    training: Training,
    compute: Compute,
    device: torch.device,
) -> Plan:
    """The strategy's parameters and rows. The network is on `device` already."""
    seen = placed_rows(task, train, network, device)
    held_out = None if validation is None else placed_rows(task, validation, network, device)
    if training.strategy == "frozen":
        return _frozen(network, seen, held_out, training, compute)
    _refuse_single_rows(network, seen, training)
    if training.strategy == "scratch":
        groups = _groups(network, training.learning_rate, training)
    else:
        groups = _groups(network.body, backbone_rate(training), training)
        groups += _groups(network.head, training.learning_rate, training)
    return Plan(network, network, groups, seen, held_out)


def backbone_rate(training: Training) -> float:
    """The body's peak learning rate under the strategy `full`."""
    return training.backbone_learning_rate or _BACKBONE_SHARE * training.learning_rate


def autocast(compute: Compute) -> AbstractContextManager[Any]:
    """Forward passes in the settings' number format; the weights stay float32."""
    wanted = compute.dtype == "bfloat16"
    return torch.autocast("cuda" if compute.device == "cuda" else "cpu", dtype=torch.bfloat16, enabled=wanted)


def memory_format(network: nn.Module) -> torch.memory_format:
    """Convolutions run fastest with the channels innermost; other networks do not care."""
    has_convolution = any(isinstance(module, nn.Conv2d) for module in network.modules())
    return torch.channels_last if has_convolution else torch.contiguous_format


def placed_rows(task: ClassificationTask, data: Data, network: Network, device: torch.device) -> Rows:
    encoded, targets = data
    placed = encoded.to(device)
    layout = memory_format(network)

    def make(rows: np.ndarray, generator: torch.Generator | None) -> Batch:
        batch = task.batch(placed, rows, generator)
        return {name: _lay_out(tensor, device, layout) for name, tensor in batch.items()}

    row_bytes = 4 * encoded.nbytes // max(1, len(encoded))
    return Rows(make, torch.from_numpy(targets).to(device), task.lengths(encoded), row_bytes)


def _lay_out(tensor: Tensor, device: torch.device, layout: torch.memory_format) -> Tensor:
    tensor = tensor.to(device)
    return tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor


def _frozen(
    network: Network, train: Rows, validation: Rows | None, training: Training, compute: Compute
) -> Plan:
    """Embeds every row once, in eval mode, so that no statistic of the body moves; then trains the head.

    Rows are embedded as they are: a cached feature has no room for augmentation. Order and batches are
    those of the ordinary loop, so the head comes out the same.
    """
    network.eval()
    seen = _embed(network, train, compute)
    held_out = None if validation is None else _embed(network, validation, compute)
    network.body.requires_grad_(False)
    answer = nn.Sequential(network.dropout, network.head)
    groups = _groups(network.head, training.learning_rate, training)
    return Plan(answer, lambda batch: network.classify(batch["features"]), groups, seen, held_out)


def _embed(network: Network, rows: Rows, compute: Compute) -> Rows:
    """The same rows with features [N, D] as their input."""
    features = torch.empty(0)
    batches = sorted_batches(len(rows), evaluation_batch_size(rows), rows.lengths)
    with torch.no_grad(), autocast(compute):
        for batch, _, numbers in feed(rows, batches, None):
            made = network.features(batch).float()
            if not len(features):
                features = made.new_empty(len(rows), made.shape[1])
            features[torch.from_numpy(numbers).to(features.device)] = made

    def make(wanted: np.ndarray, generator: torch.Generator | None) -> Batch:  # noqa: ARG001
        return {"features": features[torch.from_numpy(wanted).to(features.device)]}

    return Rows(make, rows.targets, rows.lengths, 4 * features.shape[1])


def _groups(module: nn.Module, peak: float, training: Training) -> list[dict[str, Any]]:
    """Matrices decay; biases and the scales of norms, whose size says nothing about overfitting, do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    matrices, vectors = [p for p in trained if p.ndim >= 2], [p for p in trained if p.ndim < 2]
    pairs = ((matrices, training.weight_decay), (vectors, 0.0))
    return [{"params": list(p), "lr": peak, "peak": peak, "weight_decay": decay} for p, decay in pairs if p]


def _refuse_single_rows(network: Network, rows: Rows, training: Training) -> None:
    """BatchNorm has no spread to normalise by in a batch of one row."""
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    if not norms or len(rows) // batch_count(len(rows), training.batch_size) > 1:
        return
    cure = "give more training rows" if len(rows) == 1 else "set 2 or more"
    raise UserError(f"training.batch_size: BatchNorm cannot train on batches of a single row; {cure}")
