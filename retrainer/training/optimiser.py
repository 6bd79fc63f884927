"""What moves the weights, by one word of the settings (`training.optimizer`).

A further optimiser is a class of this shape, a case of `make_optimiser`, and its name in
`Training.optimizer` (settings/training.py).

A setting of an optimiser, as `adam_betas`, is a field of `Training` (settings/training.py; `_NOT_OF` there
refuses it with another optimiser), and a value of each group (`_groups` in groups.py), by which the AdamW
inside Muon has it too.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

from retrainer.models._network import Network
from retrainer.settings import Training
from retrainer.training._adamw import AdamW
from retrainer.training._sgd import SGD, Muon
from retrainer.training.groups import Groups


class Optimiser(Protocol):
    """`param_groups` have `params`, `weight_decay`, `betas`, `peak`, and `lr`, set before each step."""

    param_groups: Groups
    parameters: list[nn.Parameter]

    def step(self) -> None: ...

    def zero_grad(self) -> None: ...

    def state_dict(self) -> dict[int, Any]:
        """Tensors, in tuples and dicts by number at most: all that a checkpoint keeps of it."""
        ...

    def load_state_dict(self, kept: dict[int, Any]) -> None: ...


def make_optimiser(groups: Groups, network: Network, training: Training) -> Optimiser:
    match training.optimizer:
        case "adamw":
            return AdamW(groups)
        case "sgd":
            return SGD(groups, training.momentum)
        case "muon":
            return Muon(groups, training.momentum, _hidden_matrices(network))


def _hidden_matrices(network: Network) -> list[nn.Parameter]:
    """Those of the body, but for `nn.Embedding`, whose rows have nothing to do with each other."""
    owners = [part for part in network.body.modules() if not isinstance(part, nn.Embedding)]
    return [p for part in owners for p in part.parameters(recurse=False) if p.ndim >= 2]
