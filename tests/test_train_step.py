"""How a step computes: in parts, on mixed, weighed or small rows; what is averaged; and when a run ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retrainer.errors import UserError
from retrainer.formats.model_files import HISTORY
from retrainer.models import torchvision
from retrainer.models._network import Network
from retrainer.settings import Task, Training
from retrainer.tasks import image_classification, text_classification
from retrainer.tasks._heads import LinearHead
from retrainer.training._adamw import AdamW
from retrainer.training.loader import shuffled_batches, stream
from retrainer.training.mixing import mix, resize, side_share
from retrainer.training.train_step import class_weights
from tests.small_datasets import train_to
from tests.small_networks import (
    EVERY_DRAW,
    PLAIN,
    convolutional,
    deep,
    image_task,
    network,
    reader,
    same,
    sentences,
    settings,
    squares,
    trained,
    weights,
)
from tests.training_cases import Counted

pytestmark = pytest.mark.usefixtures("torch_settings_restored")


def close(first: Network, second: Network, tolerance: float) -> None:
    for name, tensor in weights(first).items():
        torch.testing.assert_close(weights(second)[name], tensor, rtol=0, atol=tolerance)


# --- parts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 3, 16, 40])
def test_accumulating_equals_the_whole_batch(parts: int) -> None:
    """50 rows in batches of 16 leave 2: each row of every batch weighs the same, in whatever part."""
    whole, split = network(), network()
    first = trained(whole, settings(), squares(50), squares(20, 1))
    second = trained(split, settings(accumulate=parts), squares(50), squares(20, 1))
    close(whole, split, 1e-6)
    assert [e["train_loss"] for e in first] == pytest.approx([e["train_loss"] for e in second], rel=1e-5)


class Small:
    """A task on a device with room for `rows` rows a pass."""

    def __init__(self, task: Any, rows: int) -> None:
        self._task, self._rows = task, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def loss(self, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        if len(logits) > self._rows and logits.requires_grad:
            raise torch.OutOfMemoryError("CUDA out of memory")
        loss: Tensor = self._task.loss(logits, targets, smoothing)
        return loss


def test_out_of_memory_halves_until_it_fits_and_says_so() -> None:
    """The same draws of dropout are begun again: four parts from the start make the same bytes."""
    models = [network(dropout=0.3), network(dropout=0.3)]
    tight = settings(halve_on_out_of_memory=True)
    history = trained(models[0], tight, squares(64), task=Small(image_task(), 4))
    trained(models[1], settings(accumulate=4), squares(64))
    assert same(weights(models[0]), weights(models[1]))
    assert [entry["micro_batches"] for entry in history] == [4, 4, 4]


@pytest.mark.parametrize(
    ("room", "allowed", "cure"),
    [(4, False, "set training.halve_on_out_of_memory: true"), (0, True, "not even one row at a time")],
)
def test_out_of_memory_is_explained(room: int, allowed: bool, cure: str) -> None:
    plan = settings(halve_on_out_of_memory=allowed)
    with pytest.raises(UserError, match=rf"training\.batch_size: a step of 16 rows does not fit.*{cure}"):
        trained(network(), plan, squares(64), task=Small(image_task(), room))


def test_halving_a_batch_norm_is_refused() -> None:
    with pytest.raises(UserError, match=r"halve_on_out_of_memory: this backbone has BatchNorm"):
        trained(convolutional(), settings(halve_on_out_of_memory=True), squares(64))


def test_batch_norm_never_gets_a_part_of_one_row() -> None:
    """Batches of 16 leave 2; even 40 parts hold two rows each, or all."""
    model, sizes = convolutional(), []
    model.body[1].register_forward_hook(lambda norm, rows, _: sizes.append((norm.training, len(rows[0]))))
    trained(model, settings(accumulate=40), squares(50), squares(20, 1))
    assert min(rows for training, rows in sizes if training) == 2


# --- memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [deep, convolutional])
def test_activations_made_again_change_no_bit(build: Any) -> None:
    plain, again = build(), build()
    forwards = {name: part.forward for name, part in again.named_modules()}
    plan = settings(epochs=2, dropout=0.2)
    trained(plain, plan, squares(64), squares(20, 1))
    trained(again, plan.model_copy(update={"checkpoint_activations": True}), squares(64), squares(20, 1))
    assert same(weights(plain), weights(again)), "BatchNorm's statistics too"
    assert {name: part.forward for name, part in again.named_modules()} == forwards


def test_activations_are_made_again_in_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = deep()
    passes: list[bool] = []
    plain = type(model.body[2][0]).forward
    monkeypatch.setattr(
        type(model.body[2][0]),
        "forward",
        lambda self, x: passes.append(torch.is_grad_enabled()) or plain(self, x),
    )
    trained(model, settings(epochs=1, checkpoint_activations=True), squares(16), squares(16, 1))
    assert (passes.count(True), passes.count(False)) == (2 * 4, 4)


# --- the average of the weights ------------------------------------------------------------------------


def test_the_average_is_what_is_evaluated_and_kept() -> None:
    """By hand: the weights after every step, averaged with the same decay."""
    model, by_hand, told = network(), {}, []
    seen: list[dict[str, Tensor]] = [weights(model)]
    follow = AdamW.step

    def step(self: Any, *inputs: Any) -> Any:
        made = follow(self, *inputs)
        seen.append(weights(model))
        return made

    plan = settings(ema_decay=0.8, keep="last", epochs=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdamW, "step", step)
        trained(model, plan, squares(64), squares(40, 1), on_epoch=lambda _, f: told.append(f))
    by_hand = {name: tensor.clone() for name, tensor in seen[0].items()}
    for number, after in enumerate(seen[1:], start=1):
        decay = min(0.8, (1 + number) / (10 + number))
        by_hand = {name: decay * by_hand[name] + (1 - decay) * after[name] for name in by_hand}
    assert len(seen) == 21 and not same(seen[-1], weights(model))
    for name, tensor in weights(model).items():
        torch.testing.assert_close(tensor, by_hand[name], rtol=0, atol=1e-6)
    rows, targets = squares(40, 1)
    with torch.no_grad():
        logits = model(image_task().batch(rows, np.arange(40), None))
    loss = float(nn.functional.cross_entropy(logits, torch.from_numpy(targets)))
    assert told[-1]["validation_loss"] == pytest.approx(loss, rel=1e-5)


def test_an_average_leaves_the_training_itself_alone() -> None:
    histories = [trained(convolutional(), settings(ema_decay=d), squares(64)) for d in (0.0, 0.9)]
    assert histories[0] == histories[1], "without validation rows only what is kept differs"


def test_the_best_average_is_kept() -> None:
    wild = settings(epochs=6, learning_rate=0.5, schedule="constant", warmup=0.0, ema_decay=0.5)
    model, checks = network(), squares(40, 1)
    history = trained(model, wild, squares(64), checks)
    best = next(entry for entry in history if entry["kept"])
    assert best["epoch"] < 6, "the settings must be wild enough for an early best epoch"
    with torch.no_grad():
        logits = model(image_task().batch(checks[0], np.arange(40), None))
    loss = float(nn.functional.cross_entropy(logits, torch.from_numpy(checks[1])))
    assert best["validation_loss"] == pytest.approx(loss, rel=1e-5)


# --- balance -------------------------------------------------------------------------------------------


def skewed() -> tuple[Any, np.ndarray]:
    """90 rows of one class, 10 of the other."""
    rows, targets = squares(400)
    chosen = np.concatenate([np.flatnonzero(targets == 0)[:90], np.flatnonzero(targets == 1)[:10]])
    return type(rows)(rows.images[torch.from_numpy(chosen)], rows.mean, rows.std), targets[chosen]


def test_class_weights_even_out_and_are_one_in_the_mean() -> None:
    targets = torch.tensor([0] * 90 + [2] * 10)
    found = class_weights(targets, 4)
    assert found[[1, 3]].tolist() == [0, 0], "a class without rows"
    assert float(found[targets].mean()) == pytest.approx(1)
    assert 90 * float(found[0]) == pytest.approx(10 * float(found[2]))


def test_weights_weigh_the_loss() -> None:
    rows, targets = skewed()
    slow = {"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0.0, "batch_size": 30}
    model = network()
    with torch.no_grad():
        logits = model(image_task().batch(rows, np.arange(100), None))
        losses = nn.functional.cross_entropy(logits, torch.from_numpy(targets), reduction="none")
    wanted = float((losses[:90].mean() + losses[90:].mean()) / 2)
    assert trained(model, settings(**slow, balance="weights"), (rows, targets))[0][
        "train_loss"
    ] == pytest.approx(wanted, rel=1e-5)


def test_sampling_draws_as_many_rows_of_each_class() -> None:
    targets = skewed()[1]
    batches = shuffled_batches(100, 10, None, stream(0, "order"), targets)
    drawn = np.concatenate(batches)
    assert np.bincount(targets[drawn]).tolist() == [50, 50]
    counts = np.bincount(drawn, minlength=100)
    assert counts[:90].max() == 1 and set(counts[90:]) == {5}, "each as often as any other of its class"
    again = shuffled_batches(100, 10, None, stream(0, "order"), targets)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_without_a_clue_all_classes_are_equally_likely(balance: str) -> None:
    """All rows look the same: what is learnt is how often each class comes."""
    rows, targets = squares(100)[0], np.array([0] * 90 + [1] * 10)
    rows.images.fill_(90)
    found = {}
    for name in ("none", balance):
        model = network()
        trained(model, settings(epochs=20, balance=name, keep="last"), (rows, targets))
        with torch.no_grad():
            logits = model(image_task().batch(rows, np.arange(1), None))
        found[name] = float(logits.softmax(1)[:, 1].mean())
    assert found == {"none": pytest.approx(0.1, abs=0.05), balance: pytest.approx(0.5, abs=0.1)}


def test_rows_of_several_classes_have_no_balance() -> None:
    task = image_classification.make(Task(kind="image_classification", multi_label=True), ("a", "b"))
    rows, targets = squares(32)
    both = np.stack([targets, 1 - targets], axis=1).astype(np.float32)
    with pytest.raises(UserError, match=r"training\.balance needs one class a row"):
        trained(network(), settings(balance="weights"), (rows, both), task=task)


# --- mixing and sizes ----------------------------------------------------------------------------------


def ramp(count: int) -> tuple[Tensor, Tensor]:
    """Images whose every pixel is the row's number."""
    numbers = torch.arange(count)
    return numbers.float()[:, None, None, None].expand(count, 2, 12, 10).contiguous(), numbers % 3


def test_mixup_blends_each_row_by_its_own_share() -> None:
    pixels, targets = ramp(64)
    mixed, soft = mix(pixels, targets, 3, settings(mixup=1.0), np.random.default_rng(0))
    assert torch.equal(mixed, mixed[:, :1, :1, :1].expand_as(mixed)), "one share for all of an image"
    torch.testing.assert_close(soft.sum(1), torch.ones(64))
    partner = torch.from_numpy(np.random.default_rng(0).permutation(64))
    shares = (mixed[:, 0, 0, 0] - partner) / (torch.arange(64) - partner)
    other = targets != targets[partner]
    torch.testing.assert_close(soft[torch.arange(64), targets][other], shares[other], rtol=0, atol=1e-4)
    assert len(shares[other].mul(100).round().unique()) > 20, "not one share for all rows"


def test_cutmix_pastes_a_box_and_its_share_of_the_target() -> None:
    pixels, targets = ramp(64)
    mixed, soft = mix(pixels, targets, 3, settings(cutmix=1.0), np.random.default_rng(0))
    partner = torch.from_numpy(np.random.default_rng(0).permutation(64)).float()
    own = mixed == pixels
    assert (own | (mixed == partner[:, None, None, None])).all(), "a pixel is one row's or the other's"
    other = targets != targets[partner.long()]
    torch.testing.assert_close(soft[torch.arange(64), targets][other], own.float().mean((1, 2, 3))[other])
    for image in (~own[:, 0])[other]:  # a box: as many as rows by columns that it covers
        assert image.sum() == image.any(0).sum() * image.any(1).sum()


def test_both_are_drawn_for_half_of_the_rows_each() -> None:
    pixels, targets = ramp(400)
    mixed, _ = mix(pixels, targets, 3, settings(mixup=1.0, cutmix=1.0), np.random.default_rng(0))
    whole = (mixed == mixed[:, :1, :1, :1]).all(dim=(1, 2, 3)).float().mean()
    assert 0.45 < float(whole) < 0.65


def test_mixed_rows_train_through_the_tasks_own_loss() -> None:
    """Also with several classes a row, smoothing and weights; the same again; other rows than unmixed."""
    for multi_label in (False, True):
        task = image_classification.make(
            Task(kind="image_classification", multi_label=multi_label), ("a", "b")
        )
        rows, targets = squares(96)
        given = np.stack([1 - targets, targets], axis=1).astype(np.float32) if multi_label else targets
        runs = [network(), network(), network()]
        for model, share in zip(runs, (0.5, 0.5, 0.0), strict=True):
            plan = settings(epochs=12, mixup=share, cutmix=share, label_smoothing=0.1)
            history = trained(model, plan, (rows, given), task=task)
        assert history[-1]["train_loss"] < history[0]["train_loss"]
        assert same(weights(runs[0]), weights(runs[1])) and not same(weights(runs[0]), weights(runs[2]))


def test_images_begin_small_and_end_whole() -> None:
    training = settings(epochs=9, start_size=0.5)
    shares = [side_share(training, epoch, 1, 9) for epoch in range(1, 10)]
    assert shares[0] == 0.5 and shares == sorted(shares) and shares[5] < 1 and shares[6:] == [1, 1, 1]
    assert [resize(torch.zeros(1, 3, 64, 48), share).shape[2:] for share in (0.5, 0.3, 1)] == [
        (32, 24), (16, 16), (64, 48)
    ]  # fmt: skip
    seen: list[int] = []
    rows, targets = squares(32)
    rows = type(rows)(rows.images.repeat_interleave(4, 2).repeat_interleave(4, 3), rows.mean, rows.std)
    model = convolutional()
    model.body[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[-1]))
    trained(model, settings(epochs=3, start_size=0.5), (rows, targets))
    assert seen[0] == 16, "the first asks whether it can"
    assert seen[1:] == [16, 16, 24, 24, 32, 32]


COLOURS = {"kind": "pixels", "size": [64, 64], "channels": 3}


def test_a_body_of_one_size_cannot_begin_small() -> None:
    body = torchvision.build(torchvision.Options(name="vit_b_32"), COLOURS, None, 0, True)
    rows, targets = squares(4)
    rows = type(rows)(rows.images.expand(4, 3, 8, 8).repeat(1, 1, 8, 8), rows.mean * 3, rows.std * 3)
    with pytest.raises(UserError, match=r"training\.start_size: this backbone takes images of one size"):
        trained(Network(body, LinearHead(body.width, 2)), settings(start_size=0.5), (rows, targets))


@pytest.mark.parametrize("key", [{"mixup": 0.2}, {"cutmix": 1.0}, {"start_size": 0.5}])
def test_what_is_for_images_is_refused_for_texts(key: dict[str, float]) -> None:
    task = text_classification.make(Task(), ("a", "b"))
    with pytest.raises(UserError, match=rf"training\.{next(iter(key))} needs images"):
        trained(reader(), settings(strategy="full", **key), sentences(20), task=task)


def test_what_needs_rows_is_refused_for_cached_features() -> None:
    for key in ({"mixup": 0.2}, {"checkpoint_activations": True}):
        with pytest.raises(
            UserError, match=rf"training\.{next(iter(key))} is for the strategy .*, not for frozen"
        ):
            Training.parse({"strategy": "frozen", **key}, "training")


# --- when it ends --------------------------------------------------------------------------------------


def test_patience_ends_a_run_that_gets_no_better() -> None:
    wild = settings(epochs=30, learning_rate=0.5, schedule="constant", warmup=0.0, patience=3)
    history = trained(network(), wild, squares(64), squares(40, 1))
    losses = [entry["validation_loss"] for entry in history]
    assert len(history) < 30 and len(history) - 1 - int(np.argmin(losses)) == 3
    patient = trained(network(), wild.model_copy(update={"patience": 0}), squares(64), squares(40, 1))
    assert [entry["validation_loss"] for entry in patient[: len(history)]] == losses
    assert "reproducible" not in history[-1]


def test_patience_waits_for_the_last_phase() -> None:
    plan = settings(strategy="head-then-full", epochs=20, head_epochs=12, learning_rate=0.5, patience=2)
    history = trained(network(), plan, squares(64), squares(40, 1))
    assert len(history) >= 14


def test_patience_needs_validation_rows() -> None:
    with pytest.raises(UserError, match=r"training\.patience: .* no validation rows; set split\.validation"):
        trained(network(), settings(patience=2), squares(64))


def test_a_budget_ends_a_run_and_marks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes with each loss: eleven of them, in the third epoch of four steps."""
    now = [0.0]
    monkeypatch.setattr("retrainer.training._state.time.monotonic", lambda: now[0])

    class Ticking(Counted):
        def loss(self, *inputs: Any) -> Tensor:
            now[0] += 1
            loss: Tensor = self._task.loss(*inputs)
            return loss

    model = network()
    task = Ticking(image_task(), 0, lambda: None)
    history = trained(model, settings(epochs=50, budget_seconds=10.5), squares(64), task=task)
    assert [entry.get("reproducible", True) for entry in history] == [True, True, False]
    assert history[-1]["kept"] and now[0] == 11


def test_a_budget_shows_in_the_model_and_in_what_is_returned(squares_dataset: Path, tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    plan = settings(epochs=5, budget_seconds=1e-9)
    made = train_to(tmp_path / "short", squares_dataset, plan, on_epoch=lambda _, f: seen.append(f))
    assert made["reproducible"] is False
    history = json.loads((tmp_path / "short" / HISTORY).read_text())
    assert [entry["reproducible"] for entry in history] == [False]
    assert "reproducible" not in seen[0], "figures are numbers"
    ample = train_to(tmp_path / "long", squares_dataset, settings(budget_seconds=1000))
    assert "reproducible" not in ample


# --- compiled ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_a_compiled_step_trains_the_same() -> None:
    plain, quick = network(), network()
    task = image_task(**EVERY_DRAW)
    trained(plain, settings(), squares(50), squares(20, 1), task)
    compute = PLAIN.model_copy(update={"compile": True})
    trained(quick, settings(), squares(50), squares(20, 1), task, compute)
    close(plain, quick, 1e-5)
