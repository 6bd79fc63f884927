"""Several processes train one model: each computes its share of every batch, and all make the same update.

The first process is the one that was called: it alone writes checkpoints, history and model, and it starts
the others (`_worker`), which end with it; or torchrun has started them all (`_torchrun`).
Every process holds the same weights, optimiser and order of rows; what is summed over them are the gradients
of the batch's mean loss, so the result is that of one process.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from retrainer.errors import UserError
from retrainer.settings import Compute

HOST = "127.0.0.1"
# By then whoever waits for a process that has ended has been told so; NCCL waits for ever.
_GRACE_SECONDS = 5.0
# BatchNorm needs two.
_FEWEST_ROWS = 2
# The exit status of a process whose connection to another one broke: that one is the news.
LEFT_ALONE = 75


@dataclass(frozen=True)
class Group:
    """This process is `rank` of `size`. Alone, every method gives back what it was given.

    `local` is its rank and their number among the processes of this machine, where there are several.
    `sharded`: each holds a share of the weights, so a pass through the network takes all of them at once.
    """

    rank: int = 0
    size: int = 1
    local: tuple[int, int] | None = None
    sharded: bool = False

    @property
    def here(self) -> tuple[int, int]:
        return self.local or (self.rank, self.size)

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This process's rows of a batch. Where there are too few for all it gets none or, with shared
        weights, some that do not count.
        """
        sharers = self._sharers(len(rows))
        if self.rank < sharers:
            return rows[self.rank :: sharers]
        return rows[: self.smallest_share(len(rows)) if self.sharded else 0]

    def counts(self, rows: int) -> bool:
        """Whether this process's share of so many rows is its own."""
        return self.rank < self._sharers(rows)

    def smallest_share(self, rows: int) -> int:
        """The fewest rows that a process computes of a batch of so many."""
        return rows // self._sharers(rows)

    def _sharers(self, rows: int) -> int:
        return max(1, min(self.size, rows // _FEWEST_ROWS))

    def share_batches(self, batches: list[np.ndarray]) -> tuple[list[np.ndarray], int]:
        """This process's batches, as many as the first one has, and how many of them count."""
        mine, most = batches[self.rank :: self.size], -(-len(batches) // self.size)
        return mine + batches[:1] * (most - len(mine)), len(mine)

    def sum(self, tensor: Tensor) -> Tensor:
        """In place, over all processes."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor, rows: int) -> Tensor:
        """Sums all gradients of a batch of so many `rows` in one message; returns the sum of `loss`."""
        if self.size == 1 or self.sharded:  # which have been summed on their way
            return self.sum(loss)
        moved = self._moved(parameters, loss.device, rows)
        for parameter in moved:
            if parameter.grad is None:  # this process had no row
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
        flat = torch.cat([loss.reshape(1), *(gradient.flatten() for gradient in gradients)])
        dist.all_reduce(flat)
        sums = flat[1:].split([gradient.numel() for gradient in gradients])
        for gradient, total in zip(gradients, sums, strict=True):
            gradient.copy_(total.view(gradient.shape))
        return flat[0]

    def _moved(
        self, parameters: Sequence[nn.Parameter], device: torch.device, rows: int
    ) -> list[nn.Parameter]:
        """Those with a gradient in any process: what is frozen must not get one of zeros, and decay."""
        here = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
        if rows // _FEWEST_ROWS < self.size:
            dist.all_reduce(here)
        return [p for p, anywhere in zip(parameters, here.tolist(), strict=True) if anywhere]

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        """Every process gets the first one's values, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def first_says(self, answer: bool, device: torch.device) -> bool:
        """The first process's answer, to a question that each would answer by its own clock."""
        if self.size == 1:
            return answer
        said = torch.tensor(float(answer), device=device)
        dist.broadcast(said, 0)
        return bool(said)

    def from_first(self, kept: dict[str, Any] | None, device: torch.device) -> dict[str, Any] | None:
        """What the first process has read, tensors and plain values; nothing is pickled."""
        if self.size == 1:
            return kept
        stream = io.BytesIO()
        if self.rank == 0:
            torch.save(kept, stream)
        length = torch.tensor(stream.tell(), device=device)
        dist.broadcast(length, 0)
        content = torch.empty(int(length), dtype=torch.uint8, device=device)
        if self.rank == 0:
            content.copy_(torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8))
        dist.broadcast(content, 0)
        if self.rank == 0:
            return kept
        found: dict[str, Any] | None = torch.load(
            io.BytesIO(content.cpu().numpy().tobytes()), map_location="cpu", weights_only=True
        )
        return found

    def seed(self, purpose: str) -> str:
        """A stream's purpose, of its own in every process but the first."""
        return f"{purpose} of {self.rank}" if self.rank else purpose


ALONE = Group()


@contextmanager
def processes(compute: Compute, job: dict[str, Any]) -> Iterator[Group]:
    """Inside, `compute.processes` of them are one group, this one the first; the others do `job`.

    Raises UserError when one of them ends before its time; none outlives the block.
    """
    if compute.processes == 1:
        yield ALONE
        return
    group = Group(0, compute.processes)
    store = dist.TCPStore(HOST, 0, group.size, is_master=True, wait_for_workers=False)
    places = ({"rank": rank, "size": group.size, "port": store.port} for rank in range(1, group.size))
    workers = [_Worker(job | place) for place in places]
    over = threading.Event()
    threading.Thread(target=_watch, args=(workers, over), daemon=True, name="workers-watch").start()
    try:
        with joined(store, group, compute):
            yield group
    except RuntimeError:  # what the group's own calls raise
        lost = _lost(workers, seconds=1.0)
        if lost is None:
            raise
        raise UserError(lost) from None
    finally:
        over.set()
        for worker in workers:
            worker.end()


@contextmanager
def joined(store: Any, group: Group, compute: Compute) -> Iterator[None]:
    """Inside, this process is one of the group; it comes in when all have."""
    # With shared weights the processes also agree on when to write a checkpoint, for which no GPU is needed.
    gpu = "cpu:gloo,cuda:nccl" if compute.fsdp else "nccl"
    backend = gpu if compute.device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=group.rank, world_size=group.size)
    try:
        yield
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()


def connection_lost(error: Exception) -> bool:
    """Whether it only says that another process is gone, which is the news."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


class _Worker:
    """A further process, in a session of its own: Ctrl-C is for the first one, which ends the others."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.rank, self.size = job["rank"], job["size"]
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from retrainer.training import _worker as w; w.main()"
        )
        self._said = TemporaryFile()  # noqa: SIM115 (closed by `end`)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=self._said, start_new_session=True
        )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()  # and left open: it closes when this process is no more

    def lost(self, seconds: float) -> str | None:
        """One line when it has ended before its time, or does so in as many seconds."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        if status in (0, LEFT_ALONE):
            return None
        self._said.seek(0)
        words = self._said.read().decode(errors="replace").strip().rpartition("\n")[2]
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return (
            f"process {self.rank} of {self.size} (compute.processes) {how}{words and ': '}{words};"
            " the same command goes on from the last checkpoint, if any"
        )

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self._said.close()


def _lost(workers: list[_Worker], seconds: float = 0.0) -> str | None:
    return next((line for worker in workers if (line := worker.lost(seconds))), None)


def _watch(workers: list[_Worker], over: threading.Event) -> None:
    """Ends this process when a worker has, and its own call for that worker does not return."""
    while not over.wait(0.5):
        lost = _lost(workers)
        if lost is not None and not over.wait(_GRACE_SECONDS):
            os.write(2, f"\ntrain: {lost}\n".encode())
            for worker in workers:
                worker.process.kill()
            os._exit(1)
