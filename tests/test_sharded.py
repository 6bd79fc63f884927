"""Processes that share the weights (`compute.fsdp`) train what one process trains."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from retrainer.errors import UserError
from retrainer.formats.model_files import HISTORY, WEIGHTS
from retrainer.services.checkpoint_store import CheckpointPlace
from retrainer.settings import Backbone, Compute, Task, Training
from retrainer.training._applies import require_applicable
from retrainer.training._distributed import Group
from retrainer.training._stop import Stop
from retrainer.training.compute import resolve_compute
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.learner import Learner, Splits
from retrainer.training.train import Session, train_model
from tests.conftest import first_in_ci
from tests.encoders import without_dropout
from tests.small_datasets import MLP, TASK, image_dataset
from tests.small_networks import PLAIN, image_task, network, settings, squares

pytestmark = pytest.mark.usefixtures("torch_settings_restored")

SHARED = PLAIN.model_copy(update={"processes": 2, "fsdp": True})
NEVER = 1000.0


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """67 rows: batches of 16 leave 3, of which the second process gets none; three batches to validate."""
    return image_dataset(
        tmp_path_factory.mktemp("data") / "dataset", {"train": 67, "validation": 1100, "test": 8}
    )


@pytest.fixture(scope="module")
def still_bert(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It drops nothing at random, which processes would do otherwise than one."""
    return without_dropout(bert, tmp_path_factory.mktemp("still") / "bert")


def made(out: Path, dataset: Path, training: Training, compute: Compute, **more: Any) -> dict[str, Any]:
    task, backbone, weights = more.pop("task", TASK), more.pop("backbone", MLP), more.pop("weights", None)
    inputs = Inputs(dataset, Settings(task, backbone, training, compute), weights)
    train_model(inputs, out, Session(**more))
    return {"weights": load_file(out / WEIGHTS), "history": json.loads((out / HISTORY).read_text())}


def agree(one: dict[str, Any], two: dict[str, Any]) -> None:
    for first, second in zip(one["history"], two["history"], strict=True):
        assert first == pytest.approx(second, rel=1e-5, abs=1e-7)
    assert one["weights"].keys() == two["weights"].keys()
    for name, tensor in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], tensor, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_shared_weights_train_as_one_process_does(ragged: Path, tmp_path: Path) -> None:
    plan = settings(epochs=3, accumulate=2, ema_decay=0.9, clip_norm=0.1)
    agree(made(tmp_path / "one", ragged, plan, PLAIN), made(tmp_path / "two", ragged, plan, SHARED))


@pytest.mark.slow
def test_bytes_repeat_and_a_stop_changes_none(ragged: Path, tmp_path: Path) -> None:
    """Stopped in the middle, two processes go on from the whole checkpoint; one process begins its own."""
    plan = settings(epochs=4, dropout=0.3, ema_decay=0.8)
    undisturbed = made(tmp_path / "undisturbed", ragged, plan, SHARED)
    place = CheckpointPlace(str(tmp_path / "kept"), NEVER)

    def stop_after(epoch: int, _: Any) -> None:
        if epoch == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as leaving, Stop() as stop:
        made(tmp_path / "out", ragged, plan, SHARED, place=place, stop=stop, on_epoch=stop_after)
    assert leaving.value.code == 143
    (kept,) = (tmp_path / "kept").rglob("*.pt")
    trained = torch.load(kept, weights_only=True)["trained"]
    assert {tuple(t.shape) for t in trained.values()} == {
        tuple(t.shape) for t in undisturbed["weights"].values()
    }
    epochs: list[int] = []
    alone = made(
        tmp_path / "one", ragged, plan, PLAIN, place=place, on_epoch=lambda epoch, _: epochs.append(epoch)
    )
    assert epochs == [1, 2, 3, 4] and kept.exists(), "another number of processes is another training"
    assert alone["history"][0] != undisturbed["history"][0]
    resumed = made(tmp_path / "out", ragged, plan, SHARED, place=place)
    assert resumed["history"] == undisturbed["history"] and not kept.exists()
    assert all(torch.equal(t, undisturbed["weights"][n]) for n, t in resumed["weights"].items())


ENCODER_PLANS: dict[str, dict[str, Any]] = {
    "full": {"strategy": "full", "layer_decay": 0.5, "checkpoint_activations": True, "accumulate": 2},
    "lora": {"strategy": "lora", "lora_rank": 2, "packing": True, "checkpoint_activations": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", first_in_ci(ENCODER_PLANS))
def test_strategies_share_an_encoder(name: str, reviews: Path, still_bert: Path, tmp_path: Path) -> None:
    plan, task = settings(**{"batch_size": 14, **ENCODER_PLANS[name]}), Task(max_length=16)
    more = {"task": task, "backbone": Backbone(), "weights": still_bert}
    agree(
        made(tmp_path / "one", reviews, plan, PLAIN, **more),
        made(tmp_path / "two", reviews, plan, SHARED, **more),
    )


@pytest.mark.release
def test_more_processes_than_rows(ragged: Path, tmp_path: Path) -> None:
    """Of 3 processes that share 2 outputs of a head, one holds nothing of it; the last batch has 3 rows."""
    plan = settings(epochs=2)
    one = made(tmp_path / "one", ragged, plan, PLAIN)
    agree(one, made(tmp_path / "three", ragged, plan, SHARED.model_copy(update={"processes": 3})))


# --- shares ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 16, 33])
@pytest.mark.parametrize("size", [1, 2, 8])
def test_the_batch_is_the_same_for_any_number_of_processes(rows: int, size: int) -> None:
    """Each row counts once, and all processes compute at least as many as the smallest share has."""
    numbers = np.arange(rows) * 3
    groups = [Group(rank, size, sharded=True) for rank in range(size)]
    shares = [group.share(numbers) for group in groups]
    counted = [share for share, group in zip(shares, groups, strict=True) if group.counts(rows)]
    assert sorted(np.concatenate(counted)) == list(numbers)
    assert min(len(share) for share in shares) == groups[0].smallest_share(rows) >= 1


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9])
def test_all_processes_validate_as_many_batches(count: int) -> None:
    batches = [np.array([number]) for number in range(count)]
    shared = [Group(rank, 4).share_batches(batches) for rank in range(4)]
    assert len({len(mine) for mine, _ in shared}) == 1
    assert sorted(int(b[0]) for mine, own in shared for b in mine[:own]) == list(range(count))


# --- what cannot work together ---------------------------------------------------------------------------


def test_one_process_shares_with_nobody() -> None:
    with pytest.raises(UserError, match=r"compute\.fsdp: the weights are shared .* compute\.processes is 1"):
        Compute.parse({"fsdp": True}, "compute")


def test_shares_are_not_compiled() -> None:
    sections = {"fsdp": True, "processes": 2}
    with pytest.raises(UserError, match=r"compute\.compile: .* is not compiled; leave one of them out"):
        Compute.parse({**sections, "compile": True}, "compute")
    assert resolve_compute(Compute.parse(sections, "compute")).compile is False


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"strategy": "frozen"}, r"compute\.fsdp: training\.strategy: frozen trains a head on features"),
        ({"optimizer": "sgd"}, r"training\.optimizer: sgd moves whole weights"),
        ({"halve_on_out_of_memory": True, "strategy": "scratch"}, r"training\.halve_on_out_of_memory: "),
    ],
)
def test_what_shares_cannot_serve_is_named(changes: dict[str, Any], line: str) -> None:
    learner = Learner(network(), image_task(), settings(**changes), SHARED)
    with pytest.raises(UserError, match=line):
        require_applicable(learner, Splits(squares(8)))
