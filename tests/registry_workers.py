"""Processes that register, promote and roll back, each forked from one that has MLflow in it already."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.champions import without_serving_check
from tests.conftest import ROOT

_WRITES = re.compile(r"(create|set|delete|log|finalize|update)_")
_MEET_SECONDS = 60.0


@dataclass(frozen=True)
class Job:
    """What a process does in `folder`, with the registry at `uri` (the folder's own sqlite file when empty).

    `do` is ("register", model, report, out), ("promote", version, why) or ("rollback", why). The outcome is
    written to `outcome`: {"done": …} or {"refused": one line}. `die_before` is the number of the write to
    MLflow that is not reached, counted from 1; `die_after` one that is done and no more. `meet` is a folder
    in which two wait for each other before the write of that name, the first or the second such. A `machine`
    has a directory for temporary files, therefore locks, of its own. Without `serving_check` no process is
    asked for the new version's answers, which takes seconds and writes nothing.
    """

    folder: Path
    do: tuple[str, ...]
    outcome: Path
    uri: str = ""
    die_before: int = 0
    die_after: int = 0
    meet: Path | None = None
    meet_before: tuple[str, int] = ("set_registered_model_tag", 1)
    machine: str = ""
    serving_check: bool = True

    @property
    def told(self) -> dict[str, Any]:
        """The outcome, and `writes`: the names of what was asked of MLflow."""
        return dict(json.loads(self.outcome.read_text()))


def start(job: Job) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.registry_preloaded"])
    with_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = with_path
    try:
        process = context.Process(target=_work, args=(job,))
        process.start()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return process


def run(job: Job) -> dict[str, Any]:
    """The outcome of a job that is not to die."""
    process = start(job)
    process.join(120)
    assert process.exitcode == 0, job
    return job.told


def _work(job: Job) -> None:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_TRACKING", "MLFLOW_REGISTRY"))]:
        del os.environ[name]
    if job.uri:
        os.environ["MLFLOW_TRACKING_URI"] = job.uri
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    if job.machine:
        place = job.folder / job.machine
        place.mkdir(exist_ok=True)
        tempfile.tempdir = str(place)
    os.chdir(job.folder)
    sys.stderr = sys.stdout = Path(f"{job.outcome}.log").open("w")  # noqa: SIM115
    if not job.serving_check:
        without_serving_check(pytest.MonkeyPatch())
    writes: list[str] = []
    _watch(job, writes)
    told = _did(job)
    aside = job.outcome.with_suffix(".part")
    aside.write_text(json.dumps(told | {"writes": writes}))
    aside.replace(job.outcome)


def _did(job: Job) -> dict[str, str]:
    from retrainer.errors import UserError
    from retrainer.registry.promote import promote, rollback
    from retrainer.registry.register import register_model
    from retrainer.settings import Registry

    try:
        match job.do:
            case ("register", model, report, out):
                made = register_model(Path(model), Path(report), Path(out), Registry(name="net"))
                return {"done": f"{made['version']} {made['alias']}"}
            case ("promote", version, why):
                return {"done": promote("net", version, why)}
            case ("rollback", why):
                return {"done": rollback("net", why)}
            case _:
                raise ValueError(job.do)
    except UserError as error:
        return {"refused": str(error)}


def _watch(job: Job, writes: list[str]) -> None:
    """Counts what is asked of MLflow, and ends or holds this process where the job says."""
    from mlflow import MlflowClient

    inside = False

    def watched(name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal inside
            if inside:
                return write(*given, **named)
            writes.append(name)
            if job.meet and job.meet_before == (name, writes.count(name)):
                meet(job.meet)
            if len(writes) == job.die_before:
                os.kill(os.getpid(), signal.SIGKILL)
            inside = True
            try:
                return write(*given, **named)
            finally:
                inside = False
                if len(writes) == job.die_after:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in dir(MlflowClient):
        if _WRITES.match(name):
            setattr(MlflowClient, name, watched(name, getattr(MlflowClient, name)))


def meet(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    wait_for_others(folder, 2)


def wait_for_others(folder: Path, many: int) -> None:
    until = time.monotonic() + _MEET_SECONDS
    while len(list(folder.iterdir())) < many:
        assert time.monotonic() < until, "nobody came"
        time.sleep(0.005)
