"""Learned rows are left out of some epochs: which, how the others weigh, and that a stop changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrainer.errors import UserError
from retrainer.services.checkpoint_store import CheckpointPlace
from retrainer.training._pruning import Pruning
from retrainer.training.learner import Splits
from retrainer.training.loop import fit
from tests.small_networks import same
from tests.training_cases import NEVER, Case, images, norms, texts


def test_rows_of_small_losses_are_left_out_and_the_others_of_them_weigh_more() -> None:
    pruning, draws = Pruning(0.5, 4000, torch.device("cpu")), torch.Generator().manual_seed(0)
    every = np.arange(4000)
    assert np.array_equal(pruning.begin(1, 16, draws, False), every)
    losses = torch.arange(4000.0)
    assert torch.equal(pruning.weigh(torch.from_numpy(every), losses), losses)
    kept = pruning.begin(2, 16, draws, False)
    left_out = np.setdiff1d(every, kept)
    assert left_out.max() < 2000 and abs(len(left_out) - 1000) < 100
    weighed = pruning.weigh(torch.from_numpy(kept), torch.ones(len(kept)))
    assert set(weighed[kept < 2000].tolist()) == {2.0} and set(weighed[kept >= 2000].tolist()) == {1.0}
    assert abs(float(weighed.sum()) - 4000) < 100
    assert not np.array_equal(pruning.begin(3, 16, draws, False), kept)
    for epoch in (15, 16):
        assert np.array_equal(pruning.begin(epoch, 16, draws, False), every)
        assert torch.equal(pruning.weigh(torch.arange(3), torch.ones(3)), torch.ones(3))


def test_an_epoch_that_goes_on_has_the_rows_that_it_began_with() -> None:
    pruning, draws = Pruning(0.5, 500, torch.device("cpu")), torch.Generator().manual_seed(0)
    pruning.weigh(torch.arange(500), torch.rand(500, generator=draws))
    before = draws.get_state()
    began = pruning.begin(2, 16, draws, False)
    pruning.weigh(torch.arange(400), torch.rand(400, generator=draws))
    other = Pruning(0.5, 500, torch.device("cpu"))
    other.restore(pruning.snapshot())
    draws.set_state(before)
    assert np.array_equal(other.begin(2, 16, draws, True), began)
    assert torch.equal(other.losses, pruning.losses)


@pytest.mark.parametrize("make", [norms, texts])
def test_a_stopped_training_goes_on_to_the_same_bytes(make: Any, tmp_path: Path) -> None:
    case: Case = make(prune=0.6)
    whole, history = case.run()
    assert not same(whole, make().run()[0])
    place = CheckpointPlace(str(tmp_path), NEVER)
    epoch = -(-len(case.rows[0][1]) // case.plan.batch_size) + 1
    assert case.stopped(place, after_losses=epoch + 8) is None
    resumed = case.stopped(place, after_losses=100_000)
    assert resumed is not None and same(resumed[0], whole) and resumed[1] == history


def test_parts_of_a_step_weigh_as_the_whole_does() -> None:
    case = images(prune=0.5)
    plain = replace(case.learner(), training=case.plan.model_copy(update={"dropout": 0.0}))
    apart = replace(case.learner(), training=plain.training.model_copy(update={"accumulate": 3}))
    for learner in (plain, apart):
        learner.network.head.dropout.p = 0.0
        fit(learner, Splits(*case.rows))
    for one, other in zip(plain.network.parameters(), apart.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mixup": 0.2}, r"^training\.mixup: training\.prune chooses rows itself"),
        ({"balance": "sampling"}, r"^training\.balance: training\.prune chooses rows itself"),
    ],
)
def test_what_does_not_go_with_it_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        images(prune=0.5, **changes).run()
