"""AdamW that is little more than its kernel.

PyTorch's own class imports the compiler when it is made, a second, and half of a small network's step is its
bookkeeping (measured).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from retrainer.training._sharded import is_shared, local, share_of
from retrainer.training.groups import Groups

_EPSILON = 1e-8
# A running mean whose gradient stays 0 (a dead ReLU's, a rare word's) shrinks to a subnormal number and stays
# one, and with those a CPU is many times slower. So, once in so many steps, what is smaller than this becomes
# 0: next to epsilon it moves no weight.
_SWEEP_STEPS, _SWEPT_MEAN, _SWEPT_SQUARE = 128, 1e-30, 1e-36


class AdamW:
    """`torch.optim.AdamW(groups, fused=True)` to the bit (Loshchilov and Hutter 2019, arXiv:1711.05101),
    but for running means too small to move anything, which become 0.

    Each group has `params`, `lr`, `weight_decay` and `betas`. Takes real, dense gradients only. Of parameters
    that processes share, each moves its own part.
    """

    def __init__(self, groups: Groups) -> None:
        self.param_groups = groups
        self.parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self._steps: dict[nn.Parameter, int] = {}
        self._moments: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}
        shared = any(map(is_shared, self.parameters))
        # What the kernel is given of a list of tensors.
        self._given: Callable[[list[Any]], list[Tensor]] = _own_parts if shared else _all

    @torch.no_grad()
    def step(self) -> None:
        """Moves the parameters that have a gradient."""
        counts: dict[int, Tensor] = {}  # the kernel wants tensors; one is made for all that are equal
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            moments = [self._of(parameter) for parameter in moved]
            beta1, beta2 = group["betas"]
            torch._fused_adamw_(
                self._given(moved),
                self._given([p.grad for p in moved]),
                self._given([mean for mean, _ in moments]),
                self._given([square for _, square in moments]),
                [],
                [self._counted(parameter, counts) for parameter in moved],
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=_EPSILON,
                amsgrad=False,
                maximize=False,
            )
            self._sweep(moved)

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
        """By the parameter's place: steps so far, running means of its gradient and of its square."""
        placed = enumerate(self.parameters)
        return {
            place: (torch.tensor(float(self._steps[p])), *self._moments[p])
            for place, p in placed
            if p in self._moments
        }

    def load_state_dict(self, kept: dict[int, tuple[Tensor, Tensor, Tensor]]) -> None:
        self._steps, self._moments = {}, {}
        for place, tensors in kept.items():
            steps, *moments = tensors
            parameter = self.parameters[place]
            mean, square = (
                torch.empty_like(parameter).copy_(share_of(moment, parameter)) for moment in moments
            )
            self._steps[parameter], self._moments[parameter] = int(steps), (mean, square)

    def _of(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        found = self._moments.get(parameter)
        if found is None:
            found = self._moments[parameter] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return found

    def _counted(self, parameter: nn.Parameter, counts: dict[int, Tensor]) -> Tensor:
        """The number of the parameter's step that begins."""
        number = self._steps[parameter] = self._steps.get(parameter, 0) + 1
        found = counts.get(number)
        if found is None:
            found = counts[number] = torch.full((), float(number), device=parameter.device)
        return found

    def _sweep(self, moved: list[nn.Parameter]) -> None:
        for parameter in moved:
            if self._steps[parameter] % _SWEEP_STEPS == 0 and not parameter.is_cuda:
                mean, square = self._given([*self._moments[parameter]])
                mean.masked_fill_(mean.abs() < _SWEPT_MEAN, 0.0)
                square.masked_fill_(square < _SWEPT_SQUARE, 0.0)


def _own_parts(tensors: list[Any]) -> list[Tensor]:
    """This process's parts of them."""
    return [local(tensor) for tensor in tensors]


def _all(tensors: list[Any]) -> list[Tensor]:
    return tensors
