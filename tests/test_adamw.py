"""The engine's own short cuts give what PyTorch's own classes give, to the bit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from retrainer.training._adamw import AdamW
from retrainer.training.train_step import _clip
from tests.conftest import ROOT


def parameters() -> list[nn.Parameter]:
    torch.manual_seed(3)
    shapes: list[tuple[int, ...]] = [(5, 4), (5,), (3, 2, 3, 3), (7,)]
    made = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    made[2].data = made[2].data.contiguous(memory_format=torch.channels_last)
    return made


def groups_of(made: list[nn.Parameter], betas: tuple[float, float] = (0.9, 0.999)) -> list[dict[str, Any]]:
    one = {"params": made[:1] + made[2:3], "lr": 1e-2, "weight_decay": 0.1, "betas": betas}
    return [one, {"params": made[1:2] + made[3:], "lr": 3e-3, "weight_decay": 0.0, "betas": betas}]


def set_gradients(made: list[nn.Parameter], step: int, without: int | None = None) -> None:
    drawn = torch.Generator().manual_seed(step)
    for place, parameter in enumerate(made):
        gradient = torch.randn(parameter.shape, generator=drawn).to(parameter)
        layout = torch.channels_last if parameter.dim() == 4 else torch.contiguous_format
        parameter.grad = None if place == without else gradient.contiguous(memory_format=layout)


def same(one: list[nn.Parameter], other: list[nn.Parameter]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.8, 0.95)])
def test_the_optimiser_computes_what_pytorchs_adamw_does_also_after_a_resume(
    betas: tuple[float, float],
) -> None:
    """Several groups, rates that change, a parameter that has no gradient at first."""
    ours, theirs = parameters(), parameters()
    mine = AdamW(groups_of(ours, betas))
    reference = torch.optim.AdamW(groups_of(theirs, betas), fused=True)
    for step in range(6):
        for groups in (mine.param_groups, reference.param_groups):
            groups[0]["lr"] = 1e-2 / (step + 1)
        for made in (ours, theirs):
            set_gradients(made, step, without=1 if step < 2 else None)
        mine.step()
        reference.step()
        assert same(ours, theirs)
        if step == 3:  # as after a restart
            kept = {place: tuple(t.clone() for t in state) for place, state in mine.state_dict().items()}
            mine = AdamW(mine.param_groups)
            mine.load_state_dict(kept)  # type: ignore[arg-type]
    assert not same(ours, parameters())
    mine.zero_grad()
    assert all(p.grad is None for p in ours)


def test_gradients_that_stay_zero_leave_no_subnormal_numbers_and_the_same_weights() -> None:
    """0.9 to the power of 900 is one; PyTorch's means end there."""
    ours, theirs = parameters(), parameters()
    mine, reference = AdamW(groups_of(ours)), torch.optim.AdamW(groups_of(theirs), fused=True)
    for step in range(1500):
        for made in (ours, theirs):
            set_gradients(made, step)
            if step:
                made[0].grad = torch.zeros_like(made[0])
        mine.step()
        reference.step()
    assert same(ours, theirs)
    assert _subnormal(reference.state[theirs[0]]["exp_avg"]).all()
    means = {place: mean for place, (_, mean, _) in mine.state_dict().items()}
    assert not means[0].any() and not any(_subnormal(mean).any() for mean in means.values())
    assert torch.equal(means[1], reference.state[theirs[2]]["exp_avg"])  # the order is the groups'


def _subnormal(tensor: Tensor) -> Tensor:
    return (tensor != 0) & (tensor.abs() < torch.finfo(tensor.dtype).tiny)


@pytest.mark.parametrize("largest", [0.1, 1.0, 1000.0])
def test_clipping_is_pytorchs(largest: float) -> None:
    ours, theirs = parameters(), parameters()
    for made in (ours, theirs):
        set_gradients(made, step=1, without=3)
    _clip(ours, largest)
    nn.utils.clip_grad_norm_(theirs, largest, foreach=True)
    found: list[tuple[Tensor, Tensor]] = [(a.grad, b.grad) for a, b in zip(ours[:3], theirs[:3], strict=True)]
    assert all(torch.equal(a, b) for a, b in found)


def test_training_a_small_network_does_not_import_the_compiler() -> None:
    """It takes a second, as much as the rest of PyTorch."""
    code = (
        "import sys; from retrainer.training.compute import prepare, resolve_compute;"
        "from retrainer.settings import Compute; import torch, retrainer.training.loop;"
        "from retrainer.training._adamw import AdamW;"
        "prepare(resolve_compute(Compute.parse({'device': 'cpu'}, 'compute')));"
        "p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2);"
        "AdamW([{'params': [p], 'lr': 1.0, 'weight_decay': 0.0, 'betas': (0.9, 0.999)}]).step();"
        "print('torch._dynamo' in sys.modules, 'torch._inductor' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
