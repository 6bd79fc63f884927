"""Trainings as processes of their own, to be killed: forked from one that has done its imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from retrainer.messages import printed_messages
from retrainer.services.checkpoint_directory import DirectoryStore
from retrainer.services.checkpoint_store import checkpoint_place
from retrainer.settings import Backbone, Compute, Task, Training
from retrainer.training._stop import Stop
from retrainer.training.inputs import Inputs, Settings
from retrainer.training.train import Session, train_model
from tests.conftest import ROOT
from tests.project import environment


class SlowPlace:
    """A disk that takes until `go`, or 10 s."""

    def __init__(self, root: Path, seconds: float) -> None:
        self.root, self.seconds = root, seconds
        self.go, self.asked = threading.Event(), 0

    def store(self, digest: str) -> DirectoryStore:
        return _SlowStore(self, digest)


class _SlowStore(DirectoryStore):
    def __init__(self, place: SlowPlace, digest: str) -> None:
        super().__init__(place.root, digest)
        self._place = place

    @contextmanager
    def aside(self) -> Iterator[Path]:
        self._place.asked += 1
        if not self._place.go.wait(10):
            self._place.go.set()
            raise OSError("the disk takes too long")
        with super().aside() as path:
            yield path


class Runner:
    """`start` a job and `wait` for it, or `run` it. What it says is appended to `log`."""

    def __init__(self, log: Path) -> None:
        words = [sys.executable, "-W", "ignore", "-c", "from tests.training_process import serve; serve()"]
        self.process = subprocess.Popen(
            words, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin and self.process.stdout
        self._jobs, self._answers = self.process.stdin, self.process.stdout
        self.log = log

    def start(self, job: dict[str, Any]) -> int:
        """The process id."""
        self._jobs.write(json.dumps(job | {"log": str(self.log)}) + "\n")
        self._jobs.flush()
        return int(self._answers.readline())

    def wait(self) -> int:
        """The exit status; negative for a signal."""
        return int(self._answers.readline())

    def run(self, job: dict[str, Any]) -> int:
        self.start(job)
        return self.wait()

    def said(self) -> str:
        return self.log.read_text()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def job_of(
    out: Path, dataset: Path, weights: Path | None, sections: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """A training without checkpoints. Further keys: see `_work`."""
    places = {"out": str(out), "dataset": str(dataset), "weights": str(weights or "")}
    return {**places, **sections, "environment": {"RETRAINER_CHECKPOINT_SECONDS": "0"}}


def serve() -> None:
    """Answers each job, a line of JSON, with the process id and then the exit status."""
    import_module("torch._dynamo")  # the optimiser's first step would, in each of the forks
    for line in sys.stdin:
        job = json.loads(line)
        if job["weights"]:
            import_module("transformers.models.bert.modeling_bert")
        pid = os.fork()
        if pid == 0:
            os._exit(_work(job))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _work(job: dict[str, Any]) -> int:
    """`kill_at`, `tell_at`: before which loss to kill itself, after a delay, or to touch the file `tell`."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", **job["environment"]}
    _act_at(job)
    kinds = {"task": Task, "backbone": Backbone, "training": Training, "compute": Compute}
    settings = Settings(*(kind.parse(job[name], name) for name, kind in kinds.items()))
    start = Path(job["weights"]) if job["weights"] else None
    inputs, out = Inputs(Path(job["dataset"]), settings, start), Path(job["out"])
    try:
        with printed_messages(), Stop(job.get("leave_seconds", 18)) as stop:
            place = SlowPlace(out.with_name("slow"), 1000) if job.get("slow") else checkpoint_place()
            train_model(inputs, out, Session(progress=True, place=place, stop=stop))
    except SystemExit as leaving:
        return int(str(leaving.code))
    except KeyboardInterrupt:
        return 130
    return 0


def _act_at(job: dict[str, Any]) -> None:
    from retrainer.tasks._classes import Classification

    plain, count = Classification.loss, iter(range(1, 10**9))

    def loss(self: Any, *inputs: Any) -> Any:
        at = next(count)
        if at == job.get("kill_at"):  # soon: in this step, in the next, or while a file is being written
            kill = threading.Timer(job["after_seconds"], os.kill, (os.getpid(), signal.SIGKILL))
            kill.start()
        if at == job.get("tell_at"):
            Path(job["tell"]).touch()
            time.sleep(0.3)
        return plain(self, *inputs)

    Classification.loss = loss  # type: ignore[method-assign]
