"""What must hold on a GPU beside speed: a training repeats itself and goes on after a stop to the same bytes,
and the model that was trained there answers on a CPU as it did.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu._jobs import Job, targets
from benchmarks.gpu._measure import device
from benchmarks.gpu._ours import Enough, _pixels, _tokens
from retrainer.models._network import Network, exact
from retrainer.settings import Compute, Training
from retrainer.training.checkpoints import Checkpoints
from retrainer.training.compute import autocast, resolve_compute
from retrainer.training.learner import Learner, Splits
from retrainer.training.loop import fit

JOBS = {
    "pixels": Job("check", "pixels", "resnet18", 64, 1024, 64, 10, ""),
    "tokens": Job("check", "tokens", "bert", 32, 512, 64, 4, "", (256, 4, 4, 2000)),
}
_ROWS = 128


class Folder:
    """Checkpoints in a directory: a place, and its only store."""

    seconds = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path

    def store(self, digest: str) -> Folder:  # noqa: ARG002
        return self

    def names(self) -> list[str]:
        return [file.name for file in self._path.glob("*.pt")]

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        yield self._path / name

    @contextmanager
    def aside(self) -> Iterator[Path]:
        yield self._path / "aside"

    def publish(self, aside: Path, name: str) -> None:
        aside.rename(self._path / name)

    def delete(self, name: str) -> None:
        (self._path / name).unlink()

    def clear(self) -> None:
        pass


def check(kind: str, compile: bool | str, seed: int) -> dict[str, Any]:
    """Trains four times: twice undisturbed, once to be stopped after an epoch, and once on from there."""
    network, first = _trained(kind, compile, seed)
    found: dict[str, Any] = {"kind": kind, "compile": compile, "model": first[:16]}
    found["repeats"] = _trained(kind, compile, seed)[1] == first
    with tempfile.TemporaryDirectory() as folder:
        with suppress(Enough):
            _trained(kind, compile, seed, Checkpoints(Folder(Path(folder))), stopped=True)
        kept = sorted(file.name[:16] for file in Path(folder).glob("*.pt"))
        resumed = _trained(kind, compile, seed, Checkpoints(Folder(Path(folder))))[1]
    found |= {"resumed_from": kept[-1] if kept else None, "resumed_to_the_same": resumed == first}
    return found | _answers(network, kind, seed)


def _trained(
    kind: str, compile: bool | str, seed: int, checkpoints: Checkpoints | None = None, stopped: bool = False
) -> tuple[Network, str]:
    """The network and a digest of its weights."""
    job = JOBS[kind]
    network, task, rows = (_pixels if kind == "pixels" else _tokens)(job, seed)
    plan = {"strategy": "scratch", "epochs": 2, "batch_size": job.batch, "learning_rate": 1e-3, "seed": seed}

    def seen(epoch: int, figures: dict[str, float]) -> None:  # noqa: ARG001
        if stopped:
            raise Enough

    learner = Learner(network, task, Training.parse(plan, "training"), _compute(compile))
    fit(learner, Splits((rows, targets(job, seed))), seen, checkpoints=checkpoints)
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return network, digest.hexdigest()


def _compute(compile: bool | str) -> Compute:
    return resolve_compute(Compute.parse({"compile": compile}, "compute"))


def _answers(network: Network, kind: str, seed: int) -> dict[str, Any]:
    """Differences of logits between this CPU (float32) and the device, relative to their spread."""
    _, task, rows = (_pixels if kind == "pixels" else _tokens)(JOBS[kind], seed)
    batch = task.batch(rows, np.arange(_ROWS), None)
    found: dict[str, Any] = {}
    with torch.no_grad():
        here = network(batch)
        network.to(device())
        there = {name: tensor.to(device()) for name, tensor in batch.items()}
        for name, format in (("float32", nullcontext()), ("bfloat16", autocast(_compute(False)))):
            with exact(device()), format:
                made = network(there).float().cpu()
            difference = (made - here).abs().max() / here.std()
            same = (made.argmax(1) == here.argmax(1)).float().mean()
            found[name] = {"largest_difference": float(difference), "same_decisions": float(same)}
    return {"answers_on_a_cpu": found}
