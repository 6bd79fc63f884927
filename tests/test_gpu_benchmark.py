"""The GPU benchmark's one command, at a size for a CPU, where only a bare training machine's packages are."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.fx import GraphModule

from benchmarks.gpu import _checks, _ours, cifar10
from benchmarks.gpu.__main__ import contenders, measured
from benchmarks.gpu._apart import apart
from benchmarks.gpu._jobs import JOBS, TINY, cost
from benchmarks.gpu._measure import FIRST_PIECE, Sampler, Speed, Window
from benchmarks.gpu._table import jpeg_table, resident_table, with_roof
from retrainer.training import _compiled
from retrainer.training._rewrite import rewrite
from tests.conftest import ROOT, first_quick
from tests.imports import BARE, modules, reach
from tests.project import environment

# What a whole installation has and a bare training machine does not. accelerate is the Trainer's own need.
ABSENT = ("mlflow", "dvc", "kfp", "boto3", "botocore", "sklearn", "pandas", "scipy", "peft", "datasets")
HIDE = """
import importlib.machinery, sys
class Hiding:
    def __init__(self, inner): self.inner = inner
    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in {absent!r}
        return None if hidden else self.inner.find_spec(name, path, target)
    def __getattr__(self, name): return getattr(self.inner, name)
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Dark and light JPEG files, laid out as CIFAR-10's."""
    draws = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, level in (("dark", 40), ("light", 200)):
            folder = tmp_path / "pictures" / split / label
            folder.mkdir(parents=True)
            for number in range(16):
                pixels = (level + draws.integers(-30, 30, (32, 32, 3))).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:04}.jpg")
    return tmp_path / "pictures"


@pytest.mark.release
def test_one_command_measures_all_on_a_bare_machine(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(HIDE.format(absent=ABSENT))
    words = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--seconds", "0.2"]
    words += ["--cifar10", str(pictures), "--out", str(tmp_path / "results.json")]
    bare = environment() | {"PYTHONPATH": str(tmp_path / "hidden"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, cwd=ROOT, env=bare, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "resident in memory" in done.stdout and "from JPEG" in done.stdout
    assert "not run" not in done.stdout
    told = json.loads((tmp_path / "results.json").read_text())
    assert {row["contender"] for row in told["resident"] if row["job"] == "resnet50"} == {
        "ours", "torchvision, shipped", "torchvision, tuned", "timm, tuned"
    }  # fmt: skip
    assert [row["contender"] for row in told["resident"] if row["job"] == "bert-base"] == [
        "ours", "Trainer, shipped", "Trainer, tuned",
    ]  # fmt: skip
    for row in told["resident"]:
        assert row["samples"] > 0 and row["roof_share"] > 0 and row["joules_per_sample"] is None
    assert [row["contender"] for row in told["from_jpeg"]] == ["ours", "torchvision"]
    assert all(row["epochs"] == 2 and row["wall_seconds"] > 0 for row in told["from_jpeg"])
    assert told["roofs"]["gemm_flops"] > 0 and told["roofs"]["copy_bytes"] > 0
    assert told["machine"]["packages"]["torch"] and told["seed"] == 0
    assert str(tmp_path) not in json.dumps(told)


@pytest.mark.release
def test_a_contender_runs_in_a_process_of_its_own() -> None:
    """As where there is a GPU: nothing of this process is copied, and its functions are found again."""
    made = apart("_ours:train_written", (TINY["bert-base"], FIRST_PIECE, 0), 100)
    assert made["samples"] == TINY["bert-base"].rows and made["samples_per_second"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", _checks.JOBS)
def test_the_checks_hold_on_a_cpu(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(_checks.JOBS[kind], batch=8, rows=32, side=32, bert=(32, 2, 2, 200))
    monkeypatch.setitem(_checks.JOBS, kind, small)
    monkeypatch.setattr(_checks, "_ROWS", 16)
    found = _checks.check(kind, False, 0)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert found["repeats"] and found["resumed_to_the_same"] and found["resumed_from"]
    assert found["answers_on_a_cpu"]["float32"]["same_decisions"] == 1


@pytest.mark.usefixtures("torch_settings_restored")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", first_quick(["bert-base", "resnet18"]))
def test_our_networks_are_compiled_when_that_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[GraphModule] = []

    def compiler(_: object, module: GraphModule, inputs: list[torch.Tensor]) -> Any:  # noqa: ARG001
        seen.append(rewrite(module))
        return module.forward

    monkeypatch.setattr(_compiled._Inductor, "__call__", compiler)
    assert _ours.train_compiled(TINY[name], FIRST_PIECE, 0).samples
    assert len(seen) == 1, "one shape"


def test_the_benchmark_reaches_only_what_a_bare_machine_has() -> None:
    reached = {name for module in modules("benchmarks.gpu") for name in reach(module)}
    assert not {name for name in reached if name.startswith(("retrainer.services", "retrainer.resolve"))}
    others = {name.partition(".")[0] for name in reached} - set(sys.stdlib_module_names)
    # pynvml is used where it is; peft and opacus only by trainings that are not measured.
    assert others <= BARE | {"retrainer", "benchmarks", "timm", "pynvml", "peft", "opacus"}


def test_work_for_a_sample_is_as_published() -> None:
    """24.5, 10.9 and 67 GFLOP a training sample."""
    counted = {name: cost(job) for name, job in JOBS.items()}
    assert counted["resnet50"]["flops"] == pytest.approx(24.5e9, rel=0.01)
    assert counted["resnet18"]["flops"] == pytest.approx(10.9e9, rel=0.01)
    assert counted["bert-base"]["flops"] == pytest.approx(67e9, rel=0.01)
    assert counted["resnet50"]["bytes"] == pytest.approx(378e6, rel=0.01)


def test_the_lowest_roof_counts() -> None:
    roofs = {"gemm_flops": 800e12, "copy_bytes": 4e12}
    row = {"job": "j", "contender": "ours", **Speed(50, 0.01, 20.0, 10**9).plain()}
    made = with_roof(row, {"flops": 25e9, "bytes": 400e6}, roofs)
    assert made["roof"] == "memory" and made["roof_share"] == pytest.approx(0.5)
    made = with_roof(row, {"flops": 80e9, "bytes": 0.0}, roofs)
    assert made["roof"] == "GEMM" and made["roof_share"] == pytest.approx(0.5)
    table = resident_table([made, {"job": "j", "contender": "peer", "failed": "no such thing"}], {"j": "all"})
    assert "50% GEMM" in table and "0.4000" in table and "not run: no such thing" in table
    cifar = {"job": "c", "contender": "ours", "wall_seconds": 9.5, "accuracy": 0.9, "epochs": 3}
    assert "not reached" in jpeg_table([cifar | {"reached": False}])


def test_the_first_piece_of_work_is_not_measured() -> None:
    window = Window(budget=0.0)
    assert not window.passed(1000)
    assert window.passed(3)
    assert window.speed is not None and window.speed.samples == 3


def test_power_is_summed_over_the_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of that name that shows 100 W."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 100.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    began = time.perf_counter()
    sampler = Sampler("GPU-0")
    assert sampler.watts() == 100.0
    sampler.start()
    time.sleep(0.6)
    assert 60 <= sampler.joules() <= 100 * (time.perf_counter() - began)
    monkeypatch.setenv("PATH", "")
    assert Sampler("GPU-0").watts() is None


@pytest.mark.release
@pytest.mark.parametrize("who", cifar10.WHO)
def test_the_target_is_reached_from_jpeg(
    who: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    small = {
        "ours": ["training.epochs=12", "training.batch_size=8"],
        "torchvision": ["epochs=12", "batch=8", "rate=1e-3"],
    }
    small["ours"] += ["backbone.widths=[8,16,16]", "backbone.depth=2", "task.cutout=0"]
    cifar10.main([str(pictures), "--who", who, "--target", "0.9", "--set", *small[who]])
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    told = json.loads(capsys.readouterr().out)
    assert told["reached"] and told["accuracy"] >= 0.9 and told["epochs"] == 12
    assert str(pictures) not in json.dumps(told)


def test_nothing_begins_when_the_time_is_up() -> None:
    chosen = argparse.Namespace(end=time.monotonic() + 5, seconds=0.1, seed=0, tiny=False)
    chosen.without, chosen.profile = ["Trainer, shipped"], []
    job = TINY["bert-base"]
    rows = [measured(job, name, call, chosen) for name, call in contenders(job, chosen).items()]
    assert [row["contender"] for row in rows][-1] == "Trainer, compiled"
    assert {row["failed"] for row in rows} == {"no time was left"}
    chosen.tiny = True
    assert not any("compiled" in name for name in contenders(job, chosen))


@pytest.mark.release
def test_what_fails_is_told() -> None:
    assert apart("math:acos", (2,), 30)["failed"].startswith("ValueError: ")
    assert apart("os:_exit", (3,), 30) == {"failed": "its process ended with status 3"}
    assert apart("time:sleep", (30,), 0.1) == {"failed": "not done in 0 s"}
