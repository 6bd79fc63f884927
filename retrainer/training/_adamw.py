"""AdamW that is little more than its kernel.

PyTorch's own class imports the compiler when it is made, a second, and half of a small network's step is its
bookkeeping (measured).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retrainer.training.groups import Groups

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


class AdamW:
    """`torch.optim.AdamW(groups, fused=True)` to the bit (Loshchilov and Hutter 2019, arXiv:1711.05101).

    Each group has `params`, `lr` and `weight_decay`. Takes real, dense gradients only.
    """

    def __init__(self, groups: Groups) -> None:
        self.param_groups = groups
        self.parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self._moments: dict[nn.Parameter, tuple[Tensor, Tensor, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Moves the parameters that have a gradient."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            steps, means, squares = (list(part) for part in zip(*map(self._of, moved), strict=True))
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                moved,
                [p.grad for p in moved],
                means,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=_BETAS[0],
                beta2=_BETAS[1],
                weight_decay=group["weight_decay"],
                eps=_EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
        """By the parameter's place: steps so far, running means of its gradient and of its square."""
        placed = enumerate(self.parameters)
        return {place: self._moments[p] for place, p in placed if p in self._moments}

    def load_state_dict(self, kept: dict[int, tuple[Tensor, Tensor, Tensor]]) -> None:
        self._moments = {}
        for place, tensors in kept.items():
            steps, *moments = tensors
            parameter = self.parameters[place]
            mean, square = (torch.empty_like(parameter).copy_(moment) for moment in moments)
            self._moments[parameter] = steps.to(parameter.device), mean, square

    def _of(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor, Tensor]:
        found = self._moments.get(parameter)
        if found is None:
            steps = torch.zeros((), device=parameter.device)
            found = steps, torch.zeros_like(parameter), torch.zeros_like(parameter)
            self._moments[parameter] = found
        return found
