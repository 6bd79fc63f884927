"""The optimiser's groups: which parameter learns at which rate, and which decays."""

from __future__ import annotations

from typing import Any

from torch import nn

from retrainer.errors import SettingError
from retrainer.models._blocks import depths
from retrainer.models._network import Network
from retrainer.settings import Training

Groups = list[dict[str, Any]]
# Without its own rate, a pretrained body learns at this share of the head's: it has more to lose.
_BACKBONE_SHARE = 0.1


def backbone_rate(training: Training) -> float:
    """The peak rate of a pretrained body. What LoRA adds to it is new, and learns as the head does."""
    share = 1.0 if training.strategy == "lora" else _BACKBONE_SHARE
    return training.backbone_learning_rate or share * training.learning_rate


def head_groups(network: Network, training: Training) -> Groups:
    """Raises UserError where the head alone is to be trained and has nothing that can be."""
    if training.strategy in ("frozen", "head-then-full") and not list(network.head.parameters()):
        raise SettingError(
            f"training.strategy: {training.strategy} trains a new head, and this task's has no weights of its"
            " own; choose another, such as full"
        )
    return _groups(network.head, training.learning_rate, training)


def network_groups(network: Network, training: Training) -> Groups:
    """Body and head. With `layer_decay` below 1 each block's rate is that share of the next one's
    (Howard and Ruder 2018, arXiv:1801.06146); what comes before the first block is a layer of its own.
    """
    if training.strategy == "scratch":
        return _groups(network, training.learning_rate, training)
    peak = backbone_rate(training)
    if training.layer_decay == 1:
        return _groups(network.body, peak, training) + head_groups(network, training)
    names = network.description.blocks(network.body)
    depth, top = depths(network.body, names), len(names)
    groups: Groups = []
    for level in range(top + 1):
        layer = [p for name, p in network.body.named_parameters() if depth[name] == level]
        groups += _groups(layer, peak * training.layer_decay ** (top - level), training)
    return groups + head_groups(network, training)


def _groups(source: nn.Module | list[nn.Parameter], peak: float, training: Training) -> Groups:
    """Matrices decay; biases and the scales of norms, whose size says nothing about overfitting, do not."""
    parameters = source.parameters() if isinstance(source, nn.Module) else source
    trained = [p for p in parameters if p.requires_grad]
    matrices, vectors = [p for p in trained if p.ndim >= 2], [p for p in trained if p.ndim < 2]
    pairs = ((matrices, training.weight_decay), (vectors, 0.0))
    same = {"lr": peak, "peak": peak, "betas": training.adam_betas}
    return [{"params": list(p), "weight_decay": decay, **same} for p, decay in pairs if p]
