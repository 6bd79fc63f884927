"""Gradient descent with momentum, and Muon: optimisers beside AdamW (`_adamw.py`)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from retrainer.training._adamw import AdamW
from retrainer.training.groups import Groups

# Of the iteration by Jordan et al. 2024 that makes all singular values about 1; as in torch.optim.Muon.
_COEFFICIENTS, _ITERATIONS, _SMALLEST_NORM = (3.4445, -4.7750, 2.0315), 5, 1e-7
# A matrix then moves as far as by AdamW, so that one rate fits both (Liu et al. 2025, arXiv:2502.16982).
_SIZE_OF_ADAMW = 0.2


class _Momentum:
    """What both keep: one running gradient a parameter.

    Each group has `params`, `lr` and `weight_decay`. Takes real, dense gradients only.
    """

    def __init__(self, groups: Groups, momentum: float) -> None:
        self.param_groups = groups
        self.parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self.momentum = momentum
        self._running: dict[nn.Parameter, Tensor] = {}

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[int, Any]:
        """By the parameter's place: its running gradient."""
        return {place: self._running[p] for place, p in enumerate(self.parameters) if p in self._running}

    def load_state_dict(self, kept: dict[int, Any]) -> None:
        parameters = self.parameters
        self._running = {
            parameters[place]: torch.empty_like(parameters[place]).copy_(running)
            for place, running in kept.items()
        }

    def _of(self, parameter: nn.Parameter) -> Tensor:
        found = self._running.get(parameter)
        if found is None:
            found = self._running[parameter] = torch.zeros_like(parameter)
        return found


class SGD(_Momentum):
    """`torch.optim.SGD(groups, momentum=…, nesterov=True, fused=True)` to the bit: Nesterov's momentum, and a
    decay that is part of the gradient.
    """

    @torch.no_grad()
    def step(self) -> None:
        """Moves the parameters that have a gradient."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            torch._fused_sgd_(
                moved,
                [p.grad for p in moved],
                [self._of(p) for p in moved] if self.momentum else [],
                weight_decay=group["weight_decay"],
                momentum=self.momentum,
                lr=group["lr"],
                dampening=0.0,
                nesterov=self.momentum > 0,
                maximize=False,
                is_first_step=False,
            )


class Muon(_Momentum):
    """The running gradient of a matrix, made orthogonal, moves it (Jordan et al. 2024, "Muon"); AdamW moves
    the rest. A filter is a matrix of its outputs by all else.

    On matrices it is `torch.optim.Muon(…, adjust_lr_fn="match_rms_adamw")`: one rate and decay for both.
    """

    def __init__(self, groups: Groups, momentum: float, matrices: Collection[nn.Parameter]) -> None:
        chosen = set(matrices)
        orthogonal = _only(groups, lambda p: p in chosen)
        others = _only(groups, lambda p: p not in chosen)
        super().__init__([*orthogonal, *others], momentum)
        self._orthogonal, self._others = orthogonal, AdamW(others)

    def step(self) -> None:
        """Moves the parameters that have a gradient."""
        for group in self._orthogonal:
            self._move([p for p in group["params"] if p.grad is not None], group["lr"], group["weight_decay"])
        self._others.step()

    def state_dict(self) -> dict[int, Any]:
        """By the parameter's place its running gradient, and at -1 what AdamW keeps."""
        return super().state_dict() | {-1: self._others.state_dict()}

    def load_state_dict(self, kept: dict[int, Any]) -> None:
        self._others.load_state_dict(kept[-1])
        super().load_state_dict({place: running for place, running in kept.items() if place >= 0})

    @torch.no_grad()
    def _move(self, moved: list[nn.Parameter], rate: float, decay: float) -> None:
        if not moved:
            return
        gradients = [p.grad for p in moved]
        running = [self._of(p) for p in moved]
        torch._foreach_lerp_(running, gradients, 1 - self.momentum)
        ahead = torch._foreach_lerp(gradients, running, self.momentum)
        torch._foreach_mul_(moved, 1 - rate * decay)
        same: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for parameter, towards in zip(moved, ahead, strict=True):
            matrix = towards.reshape(len(towards), -1)
            same[len(matrix), matrix.shape[1]].append((parameter, matrix))
        for shape, pairs in same.items():
            step = -rate * _SIZE_OF_ADAMW * math.sqrt(max(shape))
            made = orthogonal(torch.stack([matrix for _, matrix in pairs]))
            for (parameter, _), update in zip(pairs, made, strict=True):
                parameter.add_(update.reshape(parameter.shape), alpha=step)


def orthogonal(matrices: Tensor) -> Tensor:
    """[N, R, C] → bfloat16 [N, R, C] with the same singular vectors, and singular values from 0.7 to 1.2."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=_SMALLEST_NORM)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _only(groups: Groups, chosen: Any) -> Groups:
    """The same groups with some of their parameters; without those that are left empty."""
    some = [group | {"params": [p for p in group["params"] if chosen(p)]} for group in groups]
    return [group for group in some if group["params"]]
