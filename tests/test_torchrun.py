"""The container's command line under torchrun: the model of own processes, written by the first one alone."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from retrainer.errors import UserError
from retrainer.formats.files import content_digest
from retrainer.services import torchrun
from retrainer.settings import Compute
from retrainer.training._torchrun import Launched
from retrainer.training.inputs import Settings
from tests.conftest import ROOT
from tests.processes import eventually, gone
from tests.project import environment
from tests.small_datasets import MLP, TASK, image_dataset
from tests.small_networks import PLAIN, settings

PAIR = PLAIN.model_copy(update={"processes": 2})
ALONE = [sys.executable, "-W", "ignore"]
TORCHRUN = [*ALONE, "-m", "torch.distributed.run"]
TOGETHER = [*TORCHRUN, "--nproc-per-node", "2", "--master-port"]


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """67 rows: batches of 16 leave 3, of which the second process gets none."""
    return image_dataset(
        tmp_path_factory.mktemp("data") / "dataset", {"train": 67, "validation": 70, "test": 8}
    )


def command(dataset: Path, model: Path, compute: Compute = PAIR, **changes: Any) -> list[str]:
    """Of the train step, as a container runs it."""
    sections = {"task": TASK, "backbone": MLP, "training": settings(**changes), "compute": compute}
    words = ["-m", "components", "train", "--dataset", str(dataset), "--model", str(model)]
    words += ["--executor-input", json.dumps({"outputs": {"outputFile": str(model.with_suffix(".json"))}})]
    return words + [w for n, s in sections.items() for w in (f"--{n}", json.dumps(s.plain()))]


def start(words: list[str], folder: Path, **more: str) -> subprocess.Popen[str]:
    """MLflow's database, checkpoints and what processes say lie in `folder`."""
    tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "RETRAINER_CHECKPOINT_SECONDS": "0"}
    tracking |= {"PYTHONWARNINGS": "ignore", "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"}
    return subprocess.Popen(
        words, cwd=ROOT, env=environment() | tracking | more, stderr=subprocess.PIPE, text=True
    )


def run(words: list[str], folder: Path, **more: str) -> tuple[int, list[str]]:
    """The exit status, and the lines that are ours rather than torchrun's."""
    with start(words, folder, **more) as process:
        _, said = process.communicate(timeout=120)
    return process.returncode, ours(said)


def ours(said: str) -> list[str]:
    told = [line for line in said.splitlines() if line.startswith("train: ") and "epoch" not in line]
    return [line for line in told if "expected: " not in line and "will cost" not in line]


def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def runs(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return int(database.execute("SELECT COUNT(*) FROM runs").fetchone()[0])


# --- the environment -----------------------------------------------------------------------------------


def test_the_environment_says_who_is_who(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert torchrun.launched() is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert torchrun.launched() is None
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match="WORLD_SIZE without RANK and LOCAL_RANK and MASTER_ADDR"):
        torchrun.launched()
    told = {"RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in (told | {"MASTER_ADDR": "far.example", "MASTER_PORT": "29500"}).items():
        monkeypatch.setenv(name, value)
    place = torchrun.launched()
    assert place == Launched(rank=3, size=4, local_rank=1, local_size=2, attempt=0)
    assert place.group.here == (1, 2), "GPUs count from 0 on every machine"
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(UserError, match="RANK 4, which must be below WORLD_SIZE, 4"):
        torchrun.launched()
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match="WORLD_SIZE 'two'"):
        torchrun.launched()


def test_the_settings_must_say_how_many() -> None:
    first, second = (Launched(rank, 3, rank, 3, 0) for rank in range(2))
    other = Settings(TASK, MLP, settings(), PAIR)
    with pytest.raises(UserError, match=r"^compute\.processes: 2, but torchrun has started 3; set "):
        first.require(other)
    with pytest.raises(SystemExit):  # told once
        second.require(other)
    own = Settings(TASK, MLP, settings(command="python my.py"), PAIR.model_copy(update={"processes": 3}))
    with pytest.raises(UserError, match=r"^training\.command: "):
        first.require(own)


# --- real processes ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_bytes_as_with_own_processes(ragged: Path, tmp_path: Path) -> None:
    plan = {"epochs": 3, "dropout": 0.2, "ema_decay": 0.8}
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert run([*ALONE, *command(ragged, alone, **plan)], tmp_path) == (0, [])
    before = runs(tmp_path)
    status, said = run([*TOGETHER, port(), *command(ragged, together, **plan)], tmp_path)
    assert (status, said) == (0, [])
    assert content_digest(together) == content_digest(alone)
    written = json.loads(together.with_suffix(".json").read_text())
    told = written["artifacts"]["model"]["artifacts"][0]["metadata"]
    assert told["model_sha256"] == content_digest(together)
    assert runs(tmp_path) == before + 1, "the first process alone is tracked"
    assert {path.name for path in tmp_path.iterdir()} >= {"alone", "together"}
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not [name for name in left if "together" in name]


@pytest.mark.slow
def test_two_machines(ragged: Path, tmp_path: Path) -> None:
    """Two torchruns of one process each meet at an address; the second one's paths stay empty."""
    words = [*TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1"]
    words += ["--master-addr", "127.0.0.1", "--master-port", port(), "--node-rank"]
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    nodes = [
        start([*words, str(rank), *command(ragged, folder / "model")], folder)
        for rank, folder in enumerate(folders)
    ]
    for node in nodes:
        _, said = node.communicate(timeout=120)
        assert node.returncode == 0, said
    assert content_digest(folders[0] / "model")
    assert not list(folders[1].iterdir())


@pytest.mark.slow
def test_another_number_is_refused_once(ragged: Path, tmp_path: Path) -> None:
    status, said = run([*TOGETHER, port(), *command(ragged, tmp_path / "model", PLAIN)], tmp_path)
    assert status != 0
    assert len(said) == 1 and said[0].startswith("train: compute.processes: 1, but torchrun has started 2;")
    assert not list(tmp_path.iterdir())


def members(torchrun_pid: int) -> list[psutil.Process]:
    """Its processes in the order of their ranks, once they train."""
    found = [p for p in psutil.Process(torchrun_pid).children() if "components" in p.cmdline()]
    return sorted(found, key=lambda p: int(p.environ()["RANK"]))


def training(folder: Path, ragged: Path, restarts: int = 0, **more: str) -> subprocess.Popen[str]:
    """Under way: a checkpoint, which the first process writes, is there."""
    words = [*TOGETHER, port(), "--max-restarts", str(restarts)]
    words += command(ragged, folder / "model", epochs=100_000)
    kept = {"RETRAINER_CHECKPOINTS": str(folder / "kept"), "RETRAINER_CHECKPOINT_SECONDS": "0.2"} | more
    process = start(words, folder, **kept)
    end = time.monotonic() + 60
    while not list((folder / "kept").rglob("*.pt")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_killed_ends_all_with_one_line(rank: int, ragged: Path, tmp_path: Path) -> None:
    with training(tmp_path, ragged) as process:
        all_of_them = members(process.pid)
        all_of_them[rank].kill()
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    lines = [line for line in ours(said) if "checkpoint of" not in line]
    assert len(lines) == 1 and "lost" in lines[0] and "goes on from the last checkpoint" in lines[0], said
    assert not [p for p in all_of_them if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_a_signal_is_the_first_ones_to_answer(ragged: Path, tmp_path: Path) -> None:
    """torchrun passes it to all: the others stay until the checkpoint is written."""
    with training(tmp_path, ragged, RETRAINER_CHECKPOINT_SECONDS="1") as process:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    lines = [line for line in said.splitlines() if "stopped by" in line]
    assert len(lines) == 1 and "goes on from epoch" in lines[0], said


@pytest.mark.slow
def test_a_restart_goes_on_from_the_checkpoint(ragged: Path, tmp_path: Path) -> None:
    with training(tmp_path, ragged, restarts=1) as process:
        old = members(process.pid)
        old[1].kill()
        assert eventually(lambda: gone(old), 60)
        newest = max(path.name for path in (tmp_path / "kept").rglob("*.pt"))
        assert eventually(lambda: max(p.name for p in (tmp_path / "kept").rglob("*.pt")) > newest, 60)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert said.count("going on from epoch") == 1, said


@pytest.mark.slow
def test_an_error_of_all_is_told_once(ragged: Path, tmp_path: Path) -> None:
    poison = {"learning_rate": 1e38, "warmup": 0.0, "clip_norm": 0.0, "epochs": 1}
    status, said = run([*TOGETHER, port(), *command(ragged, tmp_path / "model", **poison)], tmp_path)
    assert (status != 0 and len(said) == 0) or "no longer a number" in said[0]


@pytest.mark.slow
def test_what_one_lacks_is_told_once(ragged: Path, tmp_path: Path) -> None:
    """The second process is given other settings."""
    script = tmp_path / "entry.py"
    script.write_text(
        "import os, sys\n"
        "from components.command import main\n"
        "words = sys.argv[1:]\n"
        "if os.environ['RANK'] == '1':\n"
        "    words = [w.replace('\"epochs\": 3', '\"epochs\": 4') for w in words]\n"
        "sys.exit(main(words))\n"
    )
    words = command(ragged, tmp_path / "model")[2:]
    status, said = run([*TOGETHER, port(), str(script), *words], tmp_path, PYTHONPATH=str(ROOT))
    assert status != 0
    assert said == [
        "train: process 1 of 2 (compute.processes): its data, settings, weights or code are not those of"
        " the first process"
    ]
    assert not (tmp_path / "model").exists()
