"""The fit loop, its strategies, the order of rows, the machine's settings, and a user's own trainer."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retrainer.errors import UserError
from retrainer.formats.model import check_model
from retrainer.formats.network import load_network
from retrainer.models._network import Network
from retrainer.settings import Compute, Task, Training
from retrainer.tasks import image_classification, text_classification
from retrainer.tasks._pixels import Pixels
from retrainer.training import _progress, epochs, strategies
from retrainer.training import compute as compute_module
from retrainer.training._vocabulary import WordsInUse
from retrainer.training.compute import physical_cores, prepare, resolve_compute
from retrainer.training.learner import Learner, Splits
from retrainer.training.loader import (
    Rows,
    batch_count,
    load_batches,
    shuffled_batches,
    sorted_batches,
    stream,
)
from retrainer.training.loop import fit, own_randomness
from retrainer.training.schedule import rate
from retrainer.training.strategies import plan
from tests.small_datasets import image_dataset, train_to
from tests.small_networks import (
    EVERY_DRAW,
    PLAIN,
    convolutional,
    ignore,
    image_task,
    network,
    reader,
    same,
    sentences,
    settings,
    settled,
    squares,
    statistics,
    trained,
    weights,
)
from tests.training_cases import Terminal

pytestmark = pytest.mark.usefixtures("torch_settings_restored")

ROOT = Path(__file__).parent.parent


# --- tiny real parts -----------------------------------------------------------------------------------


# --- learning ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [network, convolutional])
def test_a_training_lowers_the_loss_and_predicts_well(build: Callable[[], Network]) -> None:
    model = build()
    history = trained(model, settings(epochs=15), squares(256), squares(128, seed=1))
    assert history[-1]["validation_accuracy"] > 0.8
    assert history[-1]["train_loss"] < history[0]["train_loss"] / 2
    assert not model.training and all(p.requires_grad and p.device.type == "cpu" for p in model.parameters())


def test_bfloat16_learns_and_leaves_float32_weights() -> None:
    model = network()
    compute = resolve_compute(Compute(device="cpu", dtype="bfloat16", threads=1))
    history = trained(model, settings(epochs=15), squares(256), squares(128, seed=1), compute=compute)
    assert history[-1]["validation_accuracy"] > 0.8
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_history_says_what_happened() -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    history = trained(
        network(), settings(), squares(50), squares(20, 1), on_epoch=lambda e, f: seen.append((e, dict(f)))
    )
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert set(history[0]) == {
        "epoch", "train_loss", "learning_rate", "validation_loss", "validation_accuracy", "kept"
    }  # fmt: skip
    assert sum(entry["kept"] for entry in history) == 1
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert set(seen[0][1]) == set(history[0]) - {"epoch", "kept"} | {"seconds", "rows_per_second"}
    json.dumps(history, allow_nan=False)


def test_the_train_loss_is_the_mean_over_rows_not_batches() -> None:
    rows, targets = squares(33)
    frozen_rate = settings(epochs=1, batch_size=20, learning_rate=1e-12, weight_decay=0.0)
    model = network()
    with torch.no_grad():
        logits = model(image_task().batch(rows, np.arange(33), None))
        wanted = nn.functional.cross_entropy(logits, torch.from_numpy(targets)).item()
    assert trained(model, frozen_rate, (rows, targets))[0]["train_loss"] == pytest.approx(wanted, rel=1e-5)


def test_best_keeps_the_epoch_of_the_lowest_validation_loss() -> None:
    wild = settings(epochs=6, learning_rate=0.5, schedule="constant", warmup=0.0)
    checks = squares(40, 1)
    kept, last = network(), network()
    history = trained(kept, wild, squares(64), checks)
    losses = [entry["validation_loss"] for entry in history]
    best = int(np.argmin(losses))
    assert best < 5, "the settings must be wild enough for an early best epoch"
    assert [entry["kept"] for entry in history] == [i == best for i in range(6)]
    with torch.no_grad():
        logits = kept(image_task().batch(checks[0], np.arange(40), None))
        assert nn.functional.cross_entropy(logits, torch.from_numpy(checks[1])).item() == pytest.approx(
            losses[best]
        )
    assert trained(last, wild.model_copy(update={"keep": "last"}), squares(64), checks)[-1]["kept"]
    assert not same(weights(kept), weights(last))


def test_without_validation_rows_the_last_epoch_is_kept() -> None:
    history = trained(network(), settings(), squares(40))
    assert [entry["kept"] for entry in history] == [False, False, True]
    assert "validation_loss" not in history[0]


def test_multi_label_rows_without_a_label_are_trained_on() -> None:
    rows, targets = squares(200)
    either = np.eye(2, dtype=np.float32)[targets]
    either[::4] = 0.0
    rows.images[::4] = 0
    task = image_classification.make(Task(kind="image_classification", multi_label=True), ("top", "bottom"))
    history = trained(network(), settings(epochs=20), (rows, either), (rows, either), task=task)
    assert history[-1]["validation_accuracy"] > 0.8


@pytest.mark.parametrize(("rows", "batch_size"), [(1, 16), (5, 16), (17, 16), (33, 16), (7, 1)])
def test_any_number_of_rows_trains(rows: int, batch_size: int) -> None:
    assert len(trained(network(), settings(epochs=1, batch_size=batch_size), squares(rows))) == 1


def test_a_row_left_over_does_not_break_batch_norm() -> None:
    assert len(trained(convolutional(), settings(epochs=1), squares(33))) == 1


@pytest.mark.parametrize(("rows", "batch_size"), [(1, 16), (5, 1)])
def test_batch_norm_on_single_rows_is_refused(rows: int, batch_size: int) -> None:
    with pytest.raises(
        UserError, match=r"training\.batch_size: BatchNorm cannot train on batches of a single"
    ):
        trained(convolutional(), settings(batch_size=batch_size), squares(rows))


def test_a_loss_that_overflows_stops_the_run() -> None:
    with pytest.raises(
        UserError, match=r"in epoch 1, step \d+ of 4: lower training\.learning_rate \(now 1e\+30\)"
    ):
        trained(network(), settings(learning_rate=1e30, warmup=0.0), squares(64))


def test_a_loss_that_overflows_in_the_last_step_is_seen_by_the_validation() -> None:
    with pytest.raises(
        UserError, match=r"in the validation after epoch 1.* and training\.backbone_learning_rate"
    ):
        poison = settings(strategy="full", learning_rate=1e38, warmup=0.0, epochs=1, clip_norm=0.0)
        trained(network(), poison, squares(16), squares(16, 1))


# --- determinism ---------------------------------------------------------------------------------------


def test_the_same_settings_give_the_same_weights_whatever_was_drawn_before() -> None:
    runs = []
    for drawn_before in (0, 3):
        torch.rand(drawn_before)
        before = torch.get_rng_state()
        model = network(dropout=0.3)
        history = trained(model, settings(seed=7), squares(70), squares(20, 1), task=image_task(**EVERY_DRAW))
        runs.append((weights(model), history))
        assert torch.equal(before, torch.get_rng_state())
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]


def test_another_seed_gives_other_weights() -> None:
    models = [network(), network()]
    for seed, model in enumerate(models):
        trained(model, settings(seed=seed), squares(70))
    assert not same(weights(models[0]), weights(models[1]))


# --- strategies ----------------------------------------------------------------------------------------


def test_frozen_moves_the_head_alone() -> None:
    model = settled()
    body, buffers, head = weights(model.body), statistics(model), weights(model.head)
    trained(model, settings(strategy="frozen"), squares(64), squares(20, 1))
    assert same(body, weights(model.body)) and same(buffers, statistics(model))
    assert not same(head, weights(model.head))


@pytest.mark.parametrize("strategy", ["full", "scratch"])
def test_the_other_strategies_move_everything(strategy: str) -> None:
    model = settled()
    body, buffers = weights(model.body), statistics(model)
    trained(model, settings(strategy=strategy), squares(64))
    assert not same(body, weights(model.body)) and not same(buffers, statistics(model))


@pytest.mark.parametrize(("build", "tolerance"), [(network, 0.0), (settled, 1e-6)])
def test_frozen_equals_the_ordinary_loop(build: Callable[[], Network], tolerance: float) -> None:
    """The reference embeds every batch as it comes, body in eval mode, head and its dropout in train mode.

    Bit for bit where a row's features do not depend on the rows beside it. Convolution kernels choose
    their blocks by the size of the batch, which rounds differently in the last bit.
    """
    training = settings(strategy="frozen", epochs=4, label_smoothing=0.1, fold_norms=False)
    cached, plain = build(), build()
    rows, targets = squares(70)
    if build is network:  # a product over one row at a time: no other row can change its rounding
        for model in (cached, plain):
            model.description.features = lambda inner, batch: torch.cat(
                [inner(p[None]) for p in batch["pixels"]]
            )
    trained(cached, training, (rows, targets))
    ordinary_frozen_loop(plain, training, rows, torch.from_numpy(targets))
    for name, tensor in weights(plain).items():
        assert (tensor - weights(cached)[name]).abs().max() <= tolerance, name


def ordinary_frozen_loop(model: Network, training: Training, rows: Pixels, targets: Tensor) -> None:
    prepare(PLAIN)
    task, order = image_task(), stream(training.seed, "order")
    decayed = {"params": [model.head.weight], "weight_decay": training.weight_decay}
    optimiser = torch.optim.AdamW([decayed, {"params": [model.head.bias], "weight_decay": 0.0}], fused=True)
    steps = batch_count(len(rows), training.batch_size)
    with own_randomness(training.seed, torch.device("cpu")):
        for step in range(training.epochs * steps):
            if step % steps == 0:
                batches = shuffled_batches(len(rows), training.batch_size, None, order)
            numbers = batches[step % steps]
            model.eval()
            with torch.no_grad():
                features = model.features(task.batch(rows, numbers, None))
            model.head.dropout.train()
            for group in optimiser.param_groups:
                share = rate(step, training.epochs * steps, training.warmup, training.schedule)
                group["lr"] = training.learning_rate * share
            losses = task.loss(
                model.head(features), targets[torch.from_numpy(numbers)], training.label_smoothing
            )
            optimiser.zero_grad()
            losses.mean().backward()
            nn.utils.clip_grad_norm_(model.head.parameters(), training.clip_norm)
            optimiser.step()


@pytest.mark.parametrize("strategy", ["frozen", "head-then-full"])
def test_a_task_that_keeps_no_features_trains_its_head_on_the_same_body(strategy: str) -> None:
    rows, validation = squares(40), squares(20, 1)
    models, histories = [network(dropout=0.3), network(dropout=0.3)], []
    without = image_task()
    without.abilities -= {"features"}
    before = weights(models[0].body)
    for model, task in zip(models, (image_task(), without), strict=True):
        histories.append(trained(model, settings(strategy=strategy), rows, validation, task))
    for kept, computed in zip(*histories, strict=True):
        assert kept == pytest.approx(computed, abs=1e-5)
    assert same(before, weights(models[1].body)) == (strategy == "frozen")


def test_a_head_without_weights_cannot_be_trained_alone() -> None:
    task, model = image_task(), network()
    model.head = nn.Identity()
    with pytest.raises(UserError, match=r"training\.strategy: frozen trains a new head"):
        trained(model, settings(strategy="frozen"), squares(20), task=task)


def test_frozen_sees_plain_views_when_augmentation_is_on() -> None:
    models = [settled(), settled()]
    for model, task in zip(models, (image_task(), image_task(**EVERY_DRAW)), strict=True):
        trained(model, settings(strategy="frozen"), squares(64), task=task)
    assert same(weights(models[0]), weights(models[1]))


def peaks(training: Training) -> dict[str, set[tuple[float, float]]]:
    """For body and head: (peak rate, weight decay) per number of dimensions of the parameter."""
    model = convolutional()
    learner = Learner(model, image_task(), training, PLAIN)
    made = plan(learner, Splits(squares(8)), torch.device("cpu"))
    found: dict[str, set[tuple[float, float]]] = {"body": set(), "head": set()}
    names = {id(p): name.split(".")[0] for name, p in model.named_parameters()}
    for group in made.groups:
        for parameter in group["params"]:
            assert (parameter.ndim >= 2) == (group["weight_decay"] > 0)
            found[names.pop(id(parameter))].add((group["peak"], group["weight_decay"]))
    assert training.strategy == "frozen" or not names, "every parameter is trained"
    return found


def test_rates_and_decay_by_strategy() -> None:
    both = {(0.01, 0.3), (0.01, 0.0)}
    slow = {(0.001, 0.3), (0.001, 0.0)}
    assert peaks(settings(weight_decay=0.3)) == {"body": both, "head": both}
    assert peaks(settings(weight_decay=0.3, strategy="full")) == {"body": slow, "head": both}
    assert peaks(settings(weight_decay=0.3, strategy="frozen")) == {"body": set(), "head": both}
    own = peaks(settings(strategy="full", backbone_learning_rate=2e-5))
    assert {peak for peak, _ in own["body"]} == {2e-5}


# --- words in use --------------------------------------------------------------------------------------


def read(model: Network, on_epoch: Callable[[int, dict[str, float]], None] = ignore, **changes: Any) -> Any:
    plain = {"strategy": "full", "weight_decay": 0.0, "learning_rate": 0.05, "epochs": 8}
    plain |= {"backbone_learning_rate": 0.05}
    task = text_classification.make(Task(), ("a", "b"))
    return trained(
        model, settings(**plain | changes), sentences(60), sentences(20, 1), task, on_epoch=on_epoch
    )


def test_training_the_words_in_use_equals_training_all(monkeypatch: pytest.MonkeyPatch) -> None:
    before = weights(reader())["body.layers.words.weight"]
    part, whole, sizes = reader(), reader(), []
    history = read(part, lambda *_: sizes.append(part.body.get_parameter("layers.words.weight").shape[0]))
    monkeypatch.setattr(strategies, "words_in_use", lambda *_: nullcontext())
    assert read(whole) == history and history[-1]["validation_accuracy"] > 0.8
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(part)[name], tensor, rtol=0, atol=1e-6)
    assert set(sizes) <= set(range(25, 40)), "only words that come were held while training"
    after = weights(part)["body.layers.words.weight"]
    assert torch.equal(after[41:], before[41:]) and not torch.equal(after[5:7], before[5:7])
    assert type(part.body.get_input_embeddings()) is nn.Embedding


def test_a_table_that_is_also_an_output_is_left_whole() -> None:
    model, sizes = reader(tied=True), []
    read(model, lambda *_: sizes.append(model.body.get_parameter("layers.words.weight").shape[0]))
    assert sizes == [200] * 8


def test_the_strategy_frozen_leaves_the_embedding_table_alone() -> None:
    model = reader()
    before = weights(model.body)
    read(model, strategy="frozen")
    assert same(before, weights(model.body))


def test_a_word_that_is_not_in_use_is_an_error() -> None:
    few = WordsInUse(nn.Embedding(50, 4, padding_idx=0), torch.tensor([0, 3, 7]))
    assert few(torch.tensor([[3, 7, 0]])).shape == (1, 3, 4)
    with pytest.raises(IndexError):
        few(torch.tensor([[4]]))


# --- schedule ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_rises_then_falls(schedule: Any) -> None:
    shares = [rate(step, 100, 0.1, schedule) for step in range(100)]
    assert shares[0] > 0 and shares[:10] == sorted(shares[:10])
    assert shares[10] == 1.0 and max(shares) == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[-1] == 1.0 if schedule == "constant" else 0 < shares[-1] < 0.02
    assert rate(55, 100, 0.1, schedule) == pytest.approx(1.0 if schedule == "constant" else 0.5)


def test_one_step_without_warm_up_runs_at_the_peak() -> None:
    assert rate(0, 1, 0.0, "cosine") == 1.0


# --- order of rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 18, 100, 1000])
@pytest.mark.parametrize("batch_size", [1, 2, 16, 200])
@pytest.mark.parametrize("ragged", [False, True])
def test_every_row_comes_once_an_epoch(count: int, batch_size: int, ragged: bool) -> None:
    lengths = np.random.default_rng(0).integers(3, 60, count) if ragged else None
    batches = shuffled_batches(count, batch_size, lengths, stream(0, "order"))
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert len(batches) == batch_count(count, batch_size)
    sizes = Counter(len(batch) for batch in batches)
    assert max(sizes) <= batch_size + 1
    assert sizes[1] == 0 or batch_size == 1 or count == 1


def test_rows_of_a_batch_are_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(3, 128, 2000)
    batches = shuffled_batches(2000, 32, lengths, stream(0, "order"))
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.15 * lengths.sum()
    longest = [lengths[batch].max() for batch in batches]
    assert longest != sorted(longest) and longest != sorted(longest, reverse=True)


def test_epochs_differ_and_seeds_repeat() -> None:
    first, second = stream(3, "order"), stream(3, "order")
    epochs = [np.concatenate(shuffled_batches(50, 8, None, first)).tolist() for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert epochs == [np.concatenate(shuffled_batches(50, 8, None, second)).tolist() for _ in range(2)]
    assert not torch.equal(
        torch.rand(4, generator=stream(3, "order")), torch.rand(4, generator=stream(3, "views"))
    )


def test_sorted_batches_start_with_the_longest() -> None:
    batches = sorted_batches(5, 2, np.array([3, 9, 1, 9, 4]))
    assert [batch.tolist() for batch in batches] == [[1, 3], [4, 0], [2]]
    assert sorted_batches(0, 2, None) == []


@pytest.mark.parametrize("row_bytes", [4, 1 << 30])
def test_small_rows_are_made_for_several_steps_at_once(row_bytes: int) -> None:
    calls = []

    def make(numbers: np.ndarray, generator: torch.Generator | None) -> dict[str, Tensor]:
        assert generator is None
        calls.append(len(numbers))
        return {"x": torch.from_numpy(numbers) * 10}

    rows = Rows(make, torch.arange(20), None, row_bytes)
    batches = shuffled_batches(20, 6, None, stream(0, "order"))
    for batch, (made, targets, numbers) in zip(batches, load_batches(rows, batches, None), strict=True):
        assert made["x"].tolist() == [10 * n for n in batch] and targets.tolist() == batch.tolist()
        assert numbers is batch
    assert calls == ([20] if row_bytes == 4 else [6, 6, 6, 2])


# --- the machine ---------------------------------------------------------------------------------------


def test_compute_is_settled_once() -> None:
    settled_once = resolve_compute(Compute())
    assert (
        settled_once.device in {"cpu", "cuda"} and settled_once.dtype != "auto" and settled_once.threads >= 1
    )
    assert (
        settled_once.packages["torch"] == torch.__version__.split("+")[0]
        or "+" in settled_once.packages["torch"]
    )
    assert resolve_compute(settled_once) == settled_once
    assert resolve_compute(Compute(device="cpu", dtype="float32", threads=3)).threads == 3


def test_settling_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom retrainer.training.compute import resolve_compute\n"
        "from retrainer.settings import Compute\nresolve_compute(Compute())\n"
        "print([m for m in ('torch', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(compute_module.cuda_devices() > 0, reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(UserError, match=r"compute\.device: cuda .*--gpus all.*auto or cpu"):
        resolve_compute(Compute(device="cuda"))
    assert resolve_compute(Compute(device="auto")).device == "cpu"


def test_prepare_sets_threads_and_deterministic_kernels() -> None:
    assert prepare(PLAIN).type == "cpu"
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()


def cpuinfo(*processors: tuple[int, int]) -> str:
    """The kernel's text for (core, socket) per logical processor."""
    lines = "processor\t: {}\nphysical id\t: {}\ncore id\t\t: {}\nflags\t\t: fpu avx512_bf16\n"
    return "\n".join(lines.format(i, socket, core) for i, (core, socket) in enumerate(processors)) + "\n"


def test_threads_of_one_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo((0, 0), (1, 0), (0, 0), (1, 0), (0, 1)))
    monkeypatch.setattr(compute_module, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(compute_module, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)), raising=False)
    assert physical_cores() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2}, raising=False)
    assert physical_cores() == 1
    assert resolve_compute(Compute(device="cpu")).dtype == "bfloat16"


@pytest.mark.parametrize(("limit", "cores"), [("max 100000", 4), ("150000 100000", 2), ("10000 100000", 1)])
def test_a_containers_limit_holds(
    limit: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo((0, 0), (1, 0), (2, 0), (3, 0)))
    (tmp_path / "cpu.max").write_text(limit + "\n")
    monkeypatch.setattr(compute_module, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(compute_module, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert physical_cores() == cores


def test_without_proc_the_processors_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_module, "_CPUINFO", tmp_path / "none")
    monkeypatch.setattr(compute_module, "_CGROUP", tmp_path)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert physical_cores() == os.cpu_count()
    assert resolve_compute(Compute(device="cpu")).dtype == "float32"


# --- what a person sees --------------------------------------------------------------------------------


def test_away_from_a_terminal_there_are_about_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    learner = Learner(network(), image_task(), settings(epochs=25), PLAIN)
    fit(learner, Splits(squares(20), squares(8, 1)), progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert 8 <= len(lines) <= 11
    assert lines[-1].startswith("train: epoch 25/25, train loss 0.") and "validation accuracy" in lines[-1]
    assert "rows/s, 0 s left" in lines[-1]


def test_away_from_a_terminal_a_long_epoch_tells_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "_SECONDS_OF_SILENCE", 0.0)
    monkeypatch.setattr(epochs, "_STEPS_BETWEEN_SYNCS", 2)
    learner = Learner(network(), image_task(), settings(epochs=1, batch_size=4), PLAIN)
    fit(learner, Splits(squares(20)), progress=True)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert re.match(r"train: epoch 1/1, 40% of its rows, train loss \d\.\d+, \S+ rows/s, \d+ s left", first)
    assert "rows/s, 0 s left" in last


def test_a_terminal_gets_one_bar_for_the_whole_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    learner = Learner(network(), image_task(), settings(epochs=25), PLAIN)
    fit(learner, Splits(squares(20), squares(8, 1)), progress=True)
    text = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert text.count("\n") == 1, "the bar is redrawn in its line"
    last = text.rsplit("\r", 1)[-1]
    assert last.startswith("train, epoch 25/25: 100%") and "500/500" in last and " rows/s" in last
    assert "train loss 0." in last and "validation accuracy" in last


def test_no_progress_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    trained(network(), settings(), squares(20))
    assert capfd.readouterr() == ("", "")


# --- from a dataset directory to a model directory -----------------------------------------------------


def test_training_writes_a_valid_model_the_same_twice(squares_dataset: Path, tmp_path: Path) -> None:
    training = settings(dropout=0.2, seed=3)
    made = [train_to(tmp_path / str(i), squares_dataset, training) for i in range(2)]
    assert made[0] == made[1]
    assert check_model(tmp_path / "0")["model_sha256"] == made[0]["model_sha256"]
    assert made[0]["epoch"] in {1, 2, 3} and made[0]["validation_loss"] > 0
    for file in (tmp_path / "0").iterdir():
        assert file.read_bytes() == (tmp_path / "1" / file.name).read_bytes(), file.name
    other = train_to(tmp_path / "2", squares_dataset, settings(dropout=0.2, seed=4))
    assert other["model_sha256"] != made[0]["model_sha256"]


def test_a_model_is_a_start_for_the_next(squares_dataset: Path, tmp_path: Path) -> None:
    train_to(tmp_path / "first", squares_dataset, settings())
    train_to(tmp_path / "second", squares_dataset, settings(strategy="frozen"), weights=tmp_path / "first")
    body = [load_network(tmp_path / name).body.state_dict() for name in ("first", "second")]
    assert same(body[0], body[1])


@pytest.mark.parametrize("strategy", ["frozen", "full"])
def test_weights_are_asked_for(strategy: str, squares_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=rf"{strategy} starts from weights.*set training\.strategy: scratch, or give"
    ):
        train_to(tmp_path / "model", squares_dataset, settings(strategy=strategy))
    assert not (tmp_path / "model").exists()


def test_data_without_training_rows_or_classes(tmp_path: Path) -> None:
    empty = image_dataset(tmp_path / "empty", {"train": 0, "test": 9})
    with pytest.raises(UserError, match="has no training rows"):
        train_to(tmp_path / "model", empty, settings())
    alike = image_dataset(tmp_path / "alike", {"train": 9}, classes=("top",))
    with pytest.raises(UserError, match=r"has classes \['top'\]; a classifier needs two"):
        train_to(tmp_path / "model", alike, settings())


# --- a user's own trainer ------------------------------------------------------------------------------

OWN_TRAINER = """
import argparse, json, pathlib, shutil, sys
words = argparse.ArgumentParser()
for name in ("--like", "--dataset", "--model", "--settings"):
    words.add_argument(name, type=pathlib.Path)
given = words.parse_args()
settings = json.loads(given.settings.read_text())
assert sorted(settings) == ["backbone", "compute", "task", "training"], settings
assert (given.dataset / "manifest.json").is_file()
for name in ("model.safetensors", "model.json"):
    shutil.copy(given.like / name, given.model / name)
print("trained", settings["training"]["seed"], file=sys.stderr)
"""


def command(script: Path, *words: object) -> str:
    return shlex.join(["python", str(script), *map(str, words)])


def test_an_own_trainer_makes_a_model(
    squares_dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train_to(tmp_path / "like", squares_dataset, settings())
    (tmp_path / "my train.py").write_text(OWN_TRAINER)
    own = settings(
        strategy="full", seed=9, command=command(tmp_path / "my train.py", "--like", tmp_path / "like")
    )
    made = train_to(tmp_path / "model", squares_dataset, own)
    assert check_model(tmp_path / "model")["model_sha256"] == made["model_sha256"]
    assert "trained 9" in capfd.readouterr().err


def test_an_own_trainer_that_fails_is_quoted(squares_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("print('first')\nraise SystemExit('no good')")
    with pytest.raises(UserError, match=r"training\.command ended with status 1: first \| no good"):
        train_to(tmp_path / "model", squares_dataset, settings(command=command(tmp_path / "bad.py")))
    assert list(tmp_path.iterdir()) == [tmp_path / "bad.py"], "and nothing is left behind"


def test_an_own_trainer_that_writes_nothing(squares_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "idle.py").write_text("")
    with pytest.raises(UserError, match=r"is not a model directory: model\.json is missing"):
        train_to(tmp_path / "model", squares_dataset, settings(command=command(tmp_path / "idle.py")))


def test_an_own_trainer_that_is_not_there(squares_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training\.command: cannot start 'no-such-program': No such file"):
        train_to(tmp_path / "model", squares_dataset, settings(command="no-such-program --fast"))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_own_trainer_ends_with_us(how: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
    code = (
        "import sys; from pathlib import Path; from retrainer.training._command import run_command\n"
        f"run_command({command(tmp_path / 'long.py')!r}, Path('d'), Path('m'), {{}})"
    )
    runner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert runner.stderr is not None
    child = int(runner.stderr.readline())
    runner.send_signal(how)
    runner.communicate(timeout=20)
    assert runner.returncode not in (0, None)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
