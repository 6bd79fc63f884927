"""Several processes train as one does, go on together, and end together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from retrainer.errors import UserError
from retrainer.formats.dataset import Dataset
from retrainer.formats.model_files import HISTORY, WEIGHTS
from retrainer.predict import Predictor
from retrainer.services.checkpoint_store import CheckpointPlace
from retrainer.settings import Backbone, Compute, Task, Training
from retrainer.training import compute as compute_module
from retrainer.training._distributed import Group
from retrainer.training._stop import Stop
from retrainer.training.compute import resolve_compute
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import Session, train_model
from tests.conftest import ROOT, first_in_ci
from tests.processes import eventually, gone
from tests.project import environment
from tests.small_datasets import MLP, TASK, image_dataset
from tests.small_networks import PLAIN, settings

pytestmark = pytest.mark.usefixtures("torch_settings_restored")

NEVER = 1000.0
PAIR = PLAIN.model_copy(update={"processes": 2})


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """67 rows: batches of 16 leave 3, of which the second process gets none; two batches to validate."""
    return image_dataset(
        tmp_path_factory.mktemp("data") / "dataset", {"train": 67, "validation": 530, "test": 8}
    )


def made(out: Path, dataset: Path, training: Training, compute: Compute, **more: Any) -> dict[str, Any]:
    task, backbone, weights = more.pop("task", TASK), more.pop("backbone", MLP), more.pop("weights", None)
    inputs = Inputs(dataset, Settings(task, backbone, training, compute), weights)
    train_model(inputs, out, Session(**more))
    return {"weights": load_file(out / WEIGHTS), "history": json.loads((out / HISTORY).read_text())}


def same_curve(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)


# --- shares --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 7, 16, 33])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_row_is_one_processes(rows: int, size: int) -> None:
    numbers = np.arange(rows) * 3
    shares = [Group(rank, size).share(numbers) for rank in range(size)]
    assert sorted(np.concatenate(shares)) == list(numbers)
    counts = [len(share) for share in shares if len(share)]
    assert max(counts, default=0) - min(counts, default=0) <= 1
    assert rows == 1 or all(count >= 2 for count in counts), "BatchNorm needs two"


def test_threads_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_module, "physical_cores", lambda: 8)
    assert resolve_compute(Compute(device="cpu", processes=3)).threads == 2
    assert resolve_compute(Compute(device="cpu", processes=20)).threads == 1


# --- the same curve ------------------------------------------------------------------------------------

PLANS = {
    "plain": {},
    "parts-and-average": {"accumulate": 2, "ema_decay": 0.9, "balance": "weights"},
    "balanced": {"balance": "sampling", "patience": 2, "keep": "last"},
}


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        pytest.param("parts-and-average", marks=pytest.mark.slow),
        pytest.param("balanced", marks=pytest.mark.release),
    ],
)
def test_two_processes_give_the_curve_of_one(name: str, ragged: Path, tmp_path: Path) -> None:
    plan = settings(epochs=4, **PLANS[name])
    one = made(tmp_path / "one", ragged, plan, PLAIN)
    two = made(tmp_path / "two", ragged, plan, PAIR)
    same_curve(one["history"], two["history"])
    for key, tensor in one["weights"].items():
        torch.testing.assert_close(two["weights"][key], tensor, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", first_in_ci(["frozen", "head-then-full", "last-n"]))
def test_strategies_in_two_processes(strategy: str, ragged: Path, tmp_path: Path) -> None:
    """Features are embedded in shares; what is frozen neither moves nor decays."""
    backbone = Backbone(family="mlp", hidden=[12, 6])
    made(tmp_path / "start", ragged, settings(epochs=1), PLAIN, backbone=backbone)
    plan = settings(epochs=3, strategy=strategy, weight_decay=0.5)
    more = {"backbone": backbone, "weights": tmp_path / "start"}
    one = made(tmp_path / "one", ragged, plan, PLAIN, **more)
    two = made(tmp_path / "two", ragged, plan, PAIR, **more)
    same_curve(one["history"], two["history"])
    for key, tensor in one["weights"].items():
        torch.testing.assert_close(two["weights"][key], tensor, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_texts_of_unequal_length_in_two_processes(reviews: Path, bert: Path, tmp_path: Path) -> None:
    """Each pads its own rows; the encoder holds only the words in use, and drops nothing at random."""
    encoder = Path(shutil.copytree(bert, tmp_path / "encoder"))
    config = json.loads((encoder / "config.json").read_text())
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (encoder / "config.json").write_text(json.dumps(config | still))
    told: list[list[Any]] = []
    for compute in (PLAIN, PAIR):
        told.append([])
        training = settings(strategy="full", batch_size=14)
        inputs = Inputs(reviews, Settings(Task(max_length=16), Backbone(), training, compute), encoder)
        train_model(inputs, tmp_path / str(compute.processes), Session(lambda _, f: told[-1].append(f)))
    for one, two in zip(*told, strict=True):
        for figure in ("train_loss", "validation_loss", "validation_accuracy"):
            assert one[figure] == pytest.approx(two[figure], rel=1e-4)


@pytest.mark.slow
def test_statistics_are_the_first_processes(ragged: Path, tmp_path: Path) -> None:
    """Each normalises by its own rows, as DDP does; all validate the network that is written."""
    backbone = Backbone(family="torchvision", name="shufflenet_v2_x0_5")
    task = Task(kind="image_classification", size=32, channels=1)
    plan, told = settings(epochs=2, keep="last", learning_rate=1e-3), []
    inputs = Inputs(ragged, Settings(task, backbone, plan, PAIR))
    train_model(inputs, tmp_path / "model", Session(lambda _, f: told.append(f)))
    model = Predictor.load(tmp_path / "model")
    rows = Dataset(ragged).split("validation", ["image", "labels", "origin"])
    answers = torch.from_numpy(model.probabilities(rows))
    targets = torch.from_numpy(model.task.targets(rows))
    loss = torch.nn.functional.nll_loss(answers.log(), targets)
    assert told[-1]["validation_loss"] == pytest.approx(float(loss), rel=1e-4)


# --- going on, and ending ------------------------------------------------------------------------------


@pytest.mark.slow
def test_stopped_together_they_go_on_together(ragged: Path, tmp_path: Path) -> None:
    """Dropout and augmentation draw from the position: a stop changes no bit."""
    plan = settings(epochs=4, dropout=0.3, ema_decay=0.8)
    task = Task(kind="image_classification", size=8, channels=1, shift=1, flip=True)
    undisturbed = made(tmp_path / "undisturbed", ragged, plan, PAIR, task=task)
    place = CheckpointPlace(str(tmp_path / "kept"), NEVER)

    def stop_after(epoch: int, _: Any) -> None:
        if epoch == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as leaving, Stop() as stop:
        made(tmp_path / "resumed", ragged, plan, PAIR, task=task, place=place, stop=stop, on_epoch=stop_after)
    assert leaving.value.code == 143 and list((tmp_path / "kept").rglob("*.pt"))
    assert not psutil.Process().children()
    resumed = made(tmp_path / "resumed", ragged, plan, PAIR, task=task, place=place)
    assert resumed["history"] == undisturbed["history"]
    assert all(torch.equal(t, undisturbed["weights"][n]) for n, t in resumed["weights"].items())


def workers_of(process: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(process).children() if "_worker" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_all_with_one_line(ragged: Path, tmp_path: Path) -> None:
    def kill(epoch: int, _: Any) -> None:
        if epoch == 2:
            workers_of(os.getpid())[0].kill()

    plan = settings(epochs=50)
    with pytest.raises(
        UserError, match=r"^process 1 of 2 \(compute\.processes\) was killed by signal 9; [^\n]*$"
    ):
        made(tmp_path / "model", ragged, plan, PAIR, on_epoch=kill)
    assert not (tmp_path / "model").exists()
    assert not workers_of(os.getpid())


@pytest.mark.slow
def test_an_error_of_all_is_told_once(ragged: Path, tmp_path: Path) -> None:
    poison = settings(learning_rate=1e38, warmup=0.0, clip_norm=0.0, epochs=1)
    with pytest.raises(UserError, match=r"^the loss is no longer a number"):
        made(tmp_path / "model", ragged, poison, PAIR)
    assert not workers_of(os.getpid())


SCRIPT = """
import json, sys
from pathlib import Path
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import Session, train_model
job = json.loads(sys.argv[1])
s = Settings.parse(job["sections"])
tell = lambda epoch, _: print(epoch, flush=True)
train_model(Inputs(Path(job["dataset"]), s), Path(job["out"]), Session(tell))
"""


def started(ragged: Path, out: Path, script: str = SCRIPT) -> subprocess.Popen[str]:
    sections = {"task": TASK, "backbone": MLP, "training": settings(epochs=100_000), "compute": PAIR}
    job = {"dataset": str(ragged), "out": str(out), "sections": {n: s.plain() for n, s in sections.items()}}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, json.dumps(job)],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_workers_end_with_the_first_process(ragged: Path, tmp_path: Path) -> None:
    with started(ragged, tmp_path / "model") as first:
        assert first.stdout and first.stdout.readline() == "1\n"
        workers = workers_of(first.pid)
        assert len(workers) == 1
        first.kill()
    assert eventually(lambda: gone(workers))


@pytest.mark.slow
def test_a_first_process_that_hangs_is_ended_by_its_watch(ragged: Path, tmp_path: Path) -> None:
    """As where the backend waits for a lost process for ever."""
    hanging = SCRIPT.replace(
        "print(epoch, flush=True)", "(print(epoch, flush=True), __import__('time').sleep(60))"
    )
    with started(ragged, tmp_path / "model", hanging) as first:
        assert first.stdout and first.stderr and first.stdout.readline() == "1\n"
        workers_of(first.pid)[0].kill()
        assert first.wait(20) == 1
        said = first.stderr.read().strip().splitlines()
    assert len(said) == 1 and said[0].startswith(
        "train: process 1 of 2 (compute.processes) was killed by signal 9"
    )
