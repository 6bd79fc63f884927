"""torch.compile on a CPU: the curve of the written network, the same bits after a stop, few shapes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from retrainer.errors import UserError
from retrainer.models._network import Body, Network
from retrainer.services.checkpoint_store import CheckpointPlace
from retrainer.training._compiled import compiled
from retrainer.training.learner import Learner
from retrainer.training.loader import Rows
from tests.small_networks import PLAIN, same, settings
from tests.training_cases import NEVER, Case, growing, norms, texts

# torch warns of its own use of torch.jit.
pytestmark = [
    pytest.mark.usefixtures("torch_settings_restored"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
COMPILED = PLAIN.model_copy(update={"compile": True})


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def with_compile(case: Case) -> Case:
    case.compute = COMPILED
    return case


CASES = {
    "texts": lambda: texts(epochs=2),
    "images": lambda: norms(epochs=2),
    "growing-images": lambda: growing(epochs=3, start_size=0.5),
    "parts": lambda: norms(epochs=2, accumulate=2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_compiled_network_has_the_losses_of_the_plain_one(name: str) -> None:
    plain = CASES[name]()
    plain.plan = plain.plan.model_copy(update={"dropout": 0.0})
    build = plain.build

    def still() -> torch.nn.Module:
        made = build()
        made.head.dropout.p = 0.0  # compiled code draws another mask
        # A bias before a norm has no gradient but rounding noise, which Adam makes whole steps of: another
        # noise on each kind of processor, and in compiled code.
        for layer in made.modules():
            if isinstance(layer, torch.nn.Conv2d) and layer.bias is not None:
                layer.bias.requires_grad_(False)
        return made

    plain.build = still
    _, history = plain.run()
    _, again = with_compile(plain).run()
    assert 0 < graphs() <= 20
    for one, other in zip(history, again, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
        assert one["validation_loss"] == pytest.approx(other["validation_loss"], rel=1e-2)


@pytest.mark.slow
def test_a_compiled_training_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    """The run that goes on meets the lengths in another order, and none of what was compiled is there."""
    case = with_compile(texts(epochs=2))
    undisturbed = case.run()
    torch.compiler.reset()
    place = CheckpointPlace(str(tmp_path), NEVER)
    assert case.stopped(place, 45) is None
    torch.compiler.reset()
    resumed = case.stopped(place, 10_000)
    assert resumed is not None and resumed[1] == undisturbed[1]
    assert same(resumed[0], undisturbed[0])


# --- which shapes --------------------------------------------------------------------------------------


def chosen(monkeypatch: pytest.MonkeyPatch, lengths: np.ndarray | None, *shape: int) -> bool:
    """Whether a part of this shape is compiled. Images are of 64 pixels, parts of 4 rows."""
    monkeypatch.setattr(torch, "compile", lambda *_, **__: lambda _: True)
    rows = Rows(lambda *_: {}, torch.zeros(100), lengths, 4 * 64)
    body = Body(torch.nn.Identity(), lambda *_: torch.zeros(1, 2), 2, {}, {"kind": "pixels"})
    task: Any = None
    learner = Learner(Network(body, _NotCompiled()), task, settings(batch_size=8, accumulate=2), COMPILED)
    forward = compiled(learner, rows)
    return bool(forward({"input": torch.zeros(shape)}))


class _NotCompiled(torch.nn.Module):
    def forward(self, *_: object) -> bool:
        return False


def test_only_whole_shapes_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.arange(1, 33)
    found = [t for t in range(1, 33) if chosen(monkeypatch, lengths, 4, t)]
    assert found == [4, 8, 12, 16, 20, 24, 28, 32]
    assert not chosen(monkeypatch, lengths, 3, 32), "the rest of an epoch"
    assert chosen(monkeypatch, np.arange(1, 31), 4, 30), "the longest"
    assert chosen(monkeypatch, None, 4, 1, 8, 8)
    assert not chosen(monkeypatch, None, 4, 1, 6, 6), "an image that has not grown yet"


def test_what_does_not_go_together_is_named() -> None:
    twice = with_compile(norms(checkpoint_activations=True))
    with pytest.raises(UserError, match=r"^training\.checkpoint_activations: torch\.compile "):
        twice.run()


def test_without_a_compiler_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"^compute\.compile: torch\.compile needs a C compiler"):
        chosen(monkeypatch, None, 4)
