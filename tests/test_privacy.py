"""Differentially private training: the clipped and noised gradients, the budget, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retrainer.errors import UserError
from retrainer.formats.model_files import read_model
from retrainer.formats.privacy import sentences, with_start
from retrainer.models._network import Network
from retrainer.services.checkpoint_store import CheckpointPlace
from retrainer.settings import Backbone, Task, Training
from retrainer.tasks import text_classification
from retrainer.training import _privacy
from retrainer.training._opacus import opacus
from retrainer.training._privacy import PrivateStep
from retrainer.training._privacy_budget import Budget, epsilon_of
from retrainer.training._row_gradients import gradients_of_rows
from retrainer.training._state import State
from retrainer.training.learner import Learner
from retrainer.training.strategies import plan
from retrainer.training.train import train_model
from tests.small_datasets import train_to
from tests.small_networks import (
    PLAIN,
    convolutional,
    image_task,
    network,
    reader,
    same,
    settings,
    squares,
    trained,
    weights,
)
from tests.small_networks import (
    sentences as texts,
)
from tests.training_cases import NEVER, Case

pytestmark = pytest.mark.usefixtures("torch_settings_restored")

ASKED = {"epsilon": 3.0, "delta": 1e-4}


def private(**changes: Any) -> Training:
    return settings(**{"privacy": ASKED, "batch_size": 8} | changes)


# --- the budget -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epsilon", "rows"), [(1.0, 200), pytest.param(8.0, 10_000, marks=pytest.mark.slow)])
def test_the_noise_spends_what_was_asked_within_the_accountants_tolerance(epsilon: float, rows: int) -> None:
    from opacus.accountants import RDPAccountant

    training = private(privacy={"epsilon": epsilon, "delta": 1e-5}, batch_size=32, epochs=5)
    budget = Budget.of(training, rows)
    spent = budget.spent(budget.steps)
    assert epsilon - 0.02 <= spent <= epsilon
    # Another accountant, whose bound is looser, says of the same steps a little more.
    other = RDPAccountant()
    other.history = [(budget.noise_multiplier, budget.sample_rate, budget.steps)]
    assert spent < other.get_epsilon(1e-5) < 1.35 * spent
    assert budget.spent(budget.steps // 2) < 0.9 * spent


def test_what_does_not_suit_the_number_of_rows_is_refused() -> None:
    with pytest.raises(UserError, match=r"training\.privacy\.delta: 0\.01 would allow .* of 200; set less"):
        Budget.of(private(privacy={"epsilon": 1, "delta": 0.01}), 200)
    with pytest.raises(UserError, match=r"training\.batch_size: 8 of 8 training rows"):
        Budget.of(private(), 8)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("strategy", "last-n"),
        ("balance", "sampling"),
        ("mixup", 0.2),
        ("cutmix", 1.0),
        ("clip_norm", 0.0),
        ("halve_on_out_of_memory", True),
        ("checkpoint_activations", True),
        ("command", "python mine.py"),
    ],
)
def test_a_key_that_would_make_epsilon_false_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"training\.{key}.*training\.privacy"):
        Training.parse({"strategy": "full", "privacy": ASKED} | {key: value}, "training")


def test_kept_views_and_nonsense_budgets_are_refused() -> None:
    with pytest.raises(UserError, match=r"training\.cached_views makes training\.privacy\.epsilon false"):
        Training.parse({"strategy": "frozen", "cached_views": 3, "privacy": ASKED}, "training")
    for wrong in ({"epsilon": -1}, {"epsilon": 0.01}, {"epsilon": 1e9}, {"epsilon": 1, "delta": 0}):
        with pytest.raises(UserError, match=r"training\.privacy\.(epsilon|delta)"):
            Training.parse({"privacy": wrong}, "training")


def test_batch_norm_and_tasks_that_learn_a_scale_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"body\.1 is a BatchNorm2d: a row's output depends on the rows beside"
    ):
        trained(convolutional(), private(), squares(40))
    task = image_task()
    task.abilities -= {"privacy"}
    with pytest.raises(UserError, match=r"training\.privacy needs a task that learns nothing"):
        trained(network(), private(), squares(40), task=task)


# --- one step ---------------------------------------------------------------------------------------------


class Step:
    """A private step of a small network, with the gradients that it leaves for the optimiser."""

    def __init__(self, model: Network, training: Training, rows: Any, task: Any = None) -> None:
        self.learner = Learner(model, task or image_task(), training, PLAIN)
        self.rows = rows

    def gradients(self, numbers: list[int]) -> dict[str, Tensor]:
        model, training = self.learner.network, self.learner.training
        from retrainer.training._adamw import AdamW
        from retrainer.training.learner import Splits

        with gradients_of_rows(model, training):
            made = plan(self.learner, Splits(self.rows), torch.device("cpu"))
            phase = next(made.phases(1))
            step = PrivateStep(
                self.learner,
                State(made.trained, AdamW(made.groups), training),
                None,
                Budget.of(training, len(self.rows[1])),
            )
            phase.set_mode(made.trained)
            batch, targets = phase.train.load(np.array(numbers, np.int64), None)
            step._gradients(phase, batch, targets, len(numbers))
            return {n: p.grad.clone() for n, p in made.trained.named_parameters() if p.grad is not None}


def one_by_one(
    model: Network, rows: Any, numbers: list[int], clip: float, task: Any = None
) -> dict[str, Tensor]:
    """The same by autograd, a row at a time: the sum of the clipped gradients."""
    task = task or image_task()
    summed: dict[str, Tensor] = {}
    for number in numbers:
        batch = task.batch(rows[0], np.array([number]), None)
        model.zero_grad()
        task.loss(model(batch), torch.from_numpy(rows[1][[number]]), 0.0).sum().backward()
        found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        norm = torch.sqrt(sum((g.square().sum() for g in found.values()), torch.zeros(())))
        for name, gradient in found.items():
            summed[name] = summed.get(name, 0) + gradient * min(1.0, clip / float(norm))
    return summed


def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_privacy, "_normal", lambda _, shape: np.zeros(shape, np.float32))


@pytest.mark.parametrize("clip", [0.3, 100.0])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_each_rows_gradient_is_clipped_as_autograd_has_it(
    monkeypatch: pytest.MonkeyPatch, clip: float, accumulate: int
) -> None:
    without_noise(monkeypatch)
    model, rows, numbers = network(), squares(60), [3, 4, 9, 20, 33]
    made = Step(model, private(clip_norm=clip, accumulate=accumulate), rows).gradients(numbers)
    expected = one_by_one(model, rows, numbers, clip)
    assert len(made) == len(expected) == 4
    for name, gradient in expected.items():
        mine = made[name.replace("head.", "head.linear.")]
        torch.testing.assert_close(8 * mine, gradient, rtol=1e-4, atol=1e-6)


def test_of_words_too_and_of_those_that_no_row_has(monkeypatch: pytest.MonkeyPatch) -> None:
    task = text_classification.make(Task(), ("a", "b"))
    rows, numbers = texts(60), [1, 5, 7, 22]
    with monkeypatch.context() as patch:
        without_noise(patch)
        model = reader()
        made = Step(model, private(clip_norm=0.5, strategy="full"), rows, task).gradients(numbers)
        expected = one_by_one(model, rows, numbers, 0.5, task)
        table = "body.layers.words.weight"
        torch.testing.assert_close(8 * made[table], expected[table], rtol=1e-4, atol=1e-6)
    before, model = weights(reader()), reader()
    trained(model, private(strategy="full"), rows, task=task)
    unused = slice(100, 200)  # else it would be seen which words the rows have
    assert (weights(model)[table][unused] != before[table][unused]).any(dim=1).all()


def test_a_step_without_a_row_is_noise_of_the_budgets_size() -> None:
    training = private(clip_norm=0.5)
    made = Step(network(width=16), training, squares(60)).gradients([])
    drawn = torch.cat([gradient.flatten() for gradient in made.values()])
    expected = Budget.of(training, 60).noise_multiplier * 0.5 / 8
    assert float(drawn.std()) == pytest.approx(expected, rel=0.1)
    assert abs(float(drawn.mean())) < 0.1 * expected


class Shared(nn.Module):
    """One matrix, used where no hook sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 16)

    def forward(self, pixels: Tensor) -> Tensor:
        return nn.functional.linear(pixels.flatten(1), self.inner.weight, self.inner.bias).relu()


def test_a_network_whose_rows_gradients_are_not_all_known_is_refused() -> None:
    with pytest.raises(UserError, match=r"gradient of a single row is not known in body\.inner\.weight"):
        trained(network(Shared), private(), squares(60))


# --- a whole training -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_says_what_it_spent_and_nothing_of_its_rows(squares_dataset: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    train_to(start, squares_dataset, settings(epochs=1))
    frozen = private(strategy="frozen", privacy={"epsilon": 3.0, "delta": 1e-3})
    first = tmp_path / "first"
    train_to(first, squares_dataset, frozen, weights=start)
    told = read_model(first)["privacy"]
    assert told["steps"] == 3 * 5 and 2.96 <= told["epsilon"] <= 3
    again = epsilon_of([(told["noise_multiplier"], told["sample_rate"], told["steps"])], told["delta"])
    assert again == pytest.approx(told["epsilon"], abs=0.02)
    history = json.loads((first / "history.json").read_text())
    assert all("train_loss" not in entry and "validation_loss" in entry for entry in history)
    # From one of ours that was trained without: said. Of two private ones the sum.
    assert told["start"] == "not private" and told["total_epsilon"] is None
    assert "trained without privacy" in sentences(told)[1]
    assert "without privacy" in (first / "README.md").read_text()


@pytest.mark.slow
def test_private_models_after_one_another_spend_their_sum(squares_dataset: Path, tmp_path: Path) -> None:
    budget = {"epsilon": 2.0, "delta": 1e-3}
    train_to(tmp_path / "first", squares_dataset, private(epochs=1, privacy=budget))
    start = tmp_path / "first"
    train_to(
        tmp_path / "second",
        squares_dataset,
        private(epochs=1, privacy=budget, strategy="full"),
        weights=start,
    )
    first, second = (read_model(tmp_path / name)["privacy"] for name in ("first", "second"))
    assert first["start"] == "public weights" and first["total_epsilon"] == first["epsilon"]
    assert second["start"] == "private"
    assert second["total_epsilon"] == pytest.approx(first["epsilon"] + second["epsilon"])
    assert with_start({"epsilon": 1.0, "delta": 1e-5}, None)["total_epsilon"] == 1.0


def test_no_published_seed_gives_the_noise() -> None:
    models = [network(), network()]
    for model in models:
        trained(model, private(seed=3), squares(60))
    assert not same(*(weights(model) for model in models))


def test_a_stopped_training_counts_every_step_once(tmp_path: Path) -> None:
    case = Case(network, image_task(), private(epochs=3), (squares(60), squares(20, 1)))
    place = CheckpointPlace(str(tmp_path), NEVER)
    assert case.stopped(place, 9) is None
    made = case.stopped(place, 1000)
    assert made is not None
    assert made[1][-1]["updates"] == 3 * 8 == Budget.of(case.plan, 60).steps


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["lora", "full", "frozen"])
def test_an_encoder_of_hugging_face_trains_privately(
    strategy: str, bert: Path, reviews: Path, tmp_path: Path
) -> None:
    """Its positions are looked up once for all rows of a batch."""
    from retrainer.training.inputs import Inputs, Settings

    training = private(strategy=strategy, epochs=1, dropout=0.2, batch_size=16, accumulate=2)
    sections = Settings(Task(max_length=12), Backbone(), training, PLAIN)
    train_model(Inputs(reviews, sections, bert), tmp_path / "model")
    told = read_model(tmp_path / "model")["privacy"]
    assert told["epsilon"] <= 3 and told["steps"] == 13


def test_the_package_is_named_where_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    opacus.cache_clear()
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(
        UserError, match=r"needs opacus, which is not installed; pip install 'retrainer\[privacy"
    ):
        trained(network(), private(), squares(60))
