"""The gradient of every single row of a batch, by Opacus' hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from retrainer.errors import SettingError
from retrainer.models._network import Network
from retrainer.settings import Training
from retrainer.tasks._heads import LinearHead
from retrainer.training._opacus import ignored, opacus
from retrainer.training.loader import Batch


@contextmanager
def gradients_of_rows(network: Network, training: Training) -> Iterator[None]:
    """Inside, a backward pass leaves in each trained parameter the gradient of every row, as `grad_sample`.

    Raises UserError for a layer in which a row's output depends on the rows beside it.
    """
    package, head = opacus(), network.head
    if isinstance(head, LinearHead):
        network.head = _PlainHead(head)
    trained = network.head if training.strategy == "frozen" else network
    _require_single_rows(trained, training)
    spread = _Spread(trained)
    hooks = package.grad_sample.GradSampleHooks(trained, loss_reduction="sum", strict=False)
    # With noise nothing repeats itself, and on a GPU Opacus uses what cannot.
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        with ignored("Full backward hook is firing"):
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        hooks.cleanup()
        spread.remove()
        network.head = head


class _Spread:
    """What is looked up once for all rows of a batch, as the positions of words, is looked up for each.

    Else its gradient would be that of all rows at once.
    """

    def __init__(self, trained: nn.Module) -> None:
        self._rows = 0
        tables = [part for part in trained.modules() if isinstance(part, nn.Embedding)]
        self._hooks = [table.register_forward_pre_hook(self._spread) for table in tables]
        if tables:  # so it is a whole network, whose input is a batch
            self._hooks.append(trained.register_forward_pre_hook(self._count))

    def _count(self, _: nn.Module, inputs: tuple[Batch]) -> None:
        self._rows = len(next(iter(inputs[0].values())))

    def _spread(self, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        numbers = inputs[0]
        return (numbers.expand(self._rows, *numbers.shape[1:]) if len(numbers) == 1 else numbers,)

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


class _PlainHead(nn.Module):
    """A linear head whose layer is one of PyTorch's own, which Opacus knows; it shares the head's weights."""

    def __init__(self, head: LinearHead) -> None:
        super().__init__()
        self.dropout = head.dropout
        self.linear = nn.Linear(head.in_features, head.out_features, device="meta")
        self.linear.weight, self.linear.bias = head.weight, head.bias

    def forward(self, features: Tensor, batch: Any = None) -> Tensor:  # noqa: ARG002 (a head may read it)
        outputs: Tensor = self.linear(self.dropout(features))
        return outputs


def _require_single_rows(trained: nn.Module, training: Training) -> None:
    validators = opacus().validators.ModuleValidator.VALIDATORS
    for name, part in trained.named_modules():
        norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
        learns = any(parameter.requires_grad for parameter in part.parameters(recurse=False))
        mixes = norm and training.strategy != "lora"  # there they stay in eval mode
        unfit = learns and (bool(list(part.buffers(recurse=False))) or _refused(validators, part))
        if mixes or unfit:
            why = "a row's output depends on the rows beside it" if norm else "Opacus refuses it"
            raise SettingError(
                f"training.privacy: {name or 'the network'} is a {type(part).__name__}: {why}; set"
                " training.strategy: frozen, or choose a backbone without it"
            )


def _refused(validators: dict[type, Any], part: nn.Module) -> bool:
    return type(part) in validators and bool(validators[type(part)](part))
