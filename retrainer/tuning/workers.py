"""Processes that do trials, one at a time each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from retrainer.errors import ServiceError
from retrainer.tuning.trial import Job, serve

# A worker that a signal reached writes a checkpoint first.
_LEAVE_SECONDS = 20.0


@dataclass
class Worker:
    process: SpawnProcess
    pipe: Connection
    busy: bool = False

    def start(self, job: Job) -> None:
        self.busy = True
        self.pipe.send(job)

    def receive(self) -> tuple[str, Any]:
        """Its next message, and what kind it is of. Raises UserError when its process has ended."""
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(_LEAVE_SECONDS)
            raise ServiceError(
                f"the process of a trial ended (exit status {self.process.exitcode}); the same command goes"
                " on from here"
            ) from None
        return str(kind), content


@contextmanager
def workers(count: int) -> Iterator[list[Worker]]:
    """So many processes, which end with the block: all are asked to at once, and killed after 20 seconds."""
    started: list[Worker] = []
    try:
        for _ in range(count):
            started.append(_started())
        yield started
    finally:
        _end(started)


def _started() -> Worker:
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs,), name="trial")
    process.start()
    theirs.close()  # so that its end is seen here
    return Worker(process, ours)


def _end(started: list[Worker]) -> None:
    for worker in started:
        worker.pipe.close()
        if worker.busy:  # it is in the middle of a trial
            worker.process.terminate()
    deadline = time.monotonic() + _LEAVE_SECONDS
    for worker in started:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def with_messages(started: list[Worker]) -> list[Worker]:
    """Waits until at least one of the busy workers has sent a message; returns those that have."""
    pipes = {id(worker.pipe): worker for worker in started if worker.busy}
    return [pipes[id(pipe)] for pipe in wait([worker.pipe for worker in pipes.values()])]
