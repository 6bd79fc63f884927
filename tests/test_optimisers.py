"""SGD and Muon compute what PyTorch's own do, also after a stop, and the settings name what fits them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from retrainer.errors import UserError
from retrainer.services.checkpoint_store import CheckpointPlace
from retrainer.settings import Training
from retrainer.training._adamw import AdamW
from retrainer.training._sgd import SGD, Muon, orthogonal
from retrainer.training.optimiser import make_optimiser
from tests.small_networks import convolutional, reader, same
from tests.training_cases import NEVER, Case, norms, texts


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    torch.manual_seed(3)
    return [nn.Parameter(torch.randn(shape)) for shape in shapes]


def groups_of(made: list[nn.Parameter], decay: float = 0.1) -> list[dict[str, Any]]:
    return [{"params": made, "lr": 1e-2, "peak": 1e-2, "weight_decay": decay, "betas": (0.9, 0.999)}]


def set_gradients(made: list[nn.Parameter], step: int) -> None:
    drawn = torch.Generator().manual_seed(step)
    for parameter in made:
        parameter.grad = torch.randn(parameter.shape, generator=drawn)


def equal(one: list[nn.Parameter], other: list[nn.Parameter]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("momentum", [0.0, 0.85])
def test_sgd_is_pytorchs_to_the_bit_also_after_a_resume(momentum: float) -> None:
    shapes = ((5, 4), (7,), (3, 2, 3, 3))
    ours, theirs = parameters(*shapes), parameters(*shapes)
    mine = SGD(groups_of(ours), momentum)
    reference = torch.optim.SGD(
        groups_of(theirs), lr=1.0, momentum=momentum, nesterov=momentum > 0, fused=True
    )
    for step in range(6):
        for groups in (mine.param_groups, reference.param_groups):
            groups[0]["lr"] = 1e-2 / (step + 1)
        for made, optimiser in ((ours, mine), (theirs, reference)):
            set_gradients(made, step)
            made[1].grad = None if step == 4 else made[1].grad
            optimiser.step()
        assert equal(ours, theirs)
        if step == 3:
            kept = {place: running.clone() for place, running in mine.state_dict().items()}
            assert len(kept) == (3 if momentum else 0)
            mine = SGD(mine.param_groups, momentum)
            mine.load_state_dict(kept)
    assert not equal(ours, parameters(*shapes))
    mine.zero_grad()
    assert all(p.grad is None for p in ours)


def test_muon_is_pytorchs_on_matrices_and_adamw_on_the_rest() -> None:
    """Wide, tall, and two of one shape, which are made orthogonal together."""
    shapes = ((6, 4), (4, 9), (4, 9), (7,))
    ours, theirs = parameters(*shapes), parameters(*shapes)
    mine = Muon(groups_of(ours), 0.9, ours[:3])
    muon = torch.optim.Muon(
        theirs[:3], lr=1e-2, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"
    )
    rest = AdamW(groups_of(theirs[3:]))
    for step in range(5):
        for made in (ours, theirs):
            set_gradients(made, step)
        mine.step()
        muon.step()
        rest.step()
        # Products of matrices that are stacked may round otherwise in bfloat16.
        torch.testing.assert_close(ours[:3], theirs[:3], rtol=0, atol=1e-4)
        assert equal(ours[3:], theirs[3:])
    assert (ours[0] - parameters(*shapes)[0]).abs().max() > 1e-2


def test_a_filter_is_a_matrix_of_its_outputs_whatever_its_layout() -> None:
    ours, theirs = parameters((6, 2, 3, 3)), parameters((6, 2, 3, 3))
    theirs[0].data = theirs[0].data.contiguous(memory_format=torch.channels_last)
    flat = [nn.Parameter(ours[0].detach().reshape(6, 18).clone())]
    for made in (ours, theirs, flat):
        optimiser = Muon(groups_of(made), 0.9, made)
        for step in range(3):
            drawn = torch.randn((6, 2, 3, 3), generator=torch.Generator().manual_seed(step))
            made[0].grad = drawn.reshape(made[0].shape).contiguous()
            optimiser.step()
    assert torch.equal(ours[0].reshape(6, 18), flat[0]) and torch.equal(ours[0], theirs[0])


def test_what_is_orthogonal_has_singular_values_near_one() -> None:
    values: Tensor = torch.linalg.svdvals(orthogonal(torch.randn(3, 8, 20)).float())
    assert values.min() > 0.6 and values.max() < 1.3
    assert orthogonal(torch.zeros(1, 3, 4)).abs().max() == 0


def test_tables_and_the_head_are_left_to_adamw() -> None:
    words = reader()
    muon = make_optimiser(groups_of(list(words.parameters())), words, plan("muon"))
    assert isinstance(muon, Muon)
    tables = {p for part in words.modules() if isinstance(part, nn.Embedding) for p in part.parameters()}
    others = {p for group in muon._others.param_groups for p in group["params"]}
    assert tables and tables | {words.head.weight, words.head.bias} <= others
    images = convolutional()
    muon = make_optimiser(groups_of(list(images.parameters())), images, plan("muon"))
    assert isinstance(muon, Muon)
    assert [p.ndim for group in muon._orthogonal for p in group["params"]] == [4]
    assert {id(p) for p in muon.parameters} == {id(p) for p in images.parameters()}


def plan(optimizer: str) -> Training:
    return Training.parse({"optimizer": optimizer}, "training")


def test_a_setting_of_another_optimiser_is_refused() -> None:
    with pytest.raises(UserError, match=r"^setting training\.momentum is not for the optimizer adamw"):
        Training.parse({"momentum": 0.5}, "training")
    with pytest.raises(UserError, match=r"^setting training\.adam_betas is not for the optimizer sgd"):
        Training.parse({"adam_betas": [0.9, 0.95], "optimizer": "sgd"}, "training")
    with pytest.raises(UserError, match=r"^setting training\.adam_betas.* less than 1"):
        Training.parse({"adam_betas": [0.9, 1.0]}, "training")
    with pytest.raises(UserError, match=r"^setting training\.momentum: .* less than 1"):
        Training.parse({"momentum": 1.0, "optimizer": "sgd"}, "training")
    with pytest.raises(UserError, match=r"^setting training\.optimizer"):
        Training.parse({"optimizer": "lion"}, "training")


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
@pytest.mark.parametrize("make", [norms, texts])
def test_a_stopped_training_goes_on_to_the_same_bytes(optimizer: str, make: Any, tmp_path: Any) -> None:
    case: Case = make(optimizer=optimizer, momentum=0.8, epochs=2, ema_decay=0.9)
    whole, history = case.run()
    other, _ = make(epochs=2, ema_decay=0.9).run()
    assert not same(whole, other)
    place = CheckpointPlace(str(tmp_path), NEVER)
    assert case.stopped(place, after_losses=5) is None
    resumed = case.stopped(place, after_losses=10_000)
    assert resumed is not None and same(resumed[0], whole) and resumed[1] == history
