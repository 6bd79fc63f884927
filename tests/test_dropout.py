"""Dropout of our own on a CPU: the shares that were asked for, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from retrainer.training._dropout import dropout, quick_dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_so_many_are_dropped_and_the_rest_is_raised(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    count = 400_003  # no multiple of four
    found = dropout(torch.ones(count, dtype=dtype), p)
    dropped = (found == 0).double().mean().item()
    assert abs(dropped - p) < 5 * (p * (1 - p) / count) ** 0.5 + 1 / 65536
    kept = found[found != 0].float().unique()
    assert len(kept) == 1 and kept.item() == pytest.approx(1 / (1 - p), rel=0.01)


def test_each_of_the_four_that_share_a_draw_is_dropped_by_itself() -> None:
    torch.manual_seed(1)
    found = dropout(torch.ones(400_000), 0.3).view(-1, 4) == 0
    assert (found.double().mean(0) - 0.3).abs().max() < 0.01
    together = torch.corrcoef(found.double().T) - torch.eye(4)
    assert together.abs().max() < 0.02


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_all_or_none(p: float) -> None:
    values = torch.randn(100)
    assert torch.equal(dropout(values, p), torch.zeros(100) if p == 1 else values)


def test_gradients_are_those_of_what_was_kept() -> None:
    torch.manual_seed(2)
    values = torch.randn(6, 7, requires_grad=True)
    found = dropout(values, 0.5)
    found.sum().backward()
    assert torch.equal(values.grad, (found != 0) * 2.0)


def test_inside_of_the_block_alone() -> None:
    body = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    torch.manual_seed(3)
    plain = body(torch.ones(8, 4))
    with quick_dropout(body):
        torch.manual_seed(3)
        quick = body(torch.ones(8, 4))
        body.eval()
        assert torch.equal(body(torch.ones(8, 4)), body[0](torch.ones(8, 4)))
        body.train()
    assert not torch.equal(plain, quick)
    torch.manual_seed(3)
    assert torch.equal(body(torch.ones(8, 4)), plain)
    assert "forward" not in vars(body[1])
