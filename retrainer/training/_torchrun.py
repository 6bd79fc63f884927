"""The processes that torchrun has started, on one machine or several, train one model.

The first one does all that a single process does. The others compute their shares, write nothing, and end
with it. What they tell each other beside the training goes through torchrun's own store:

    first   the first one is there; a digest of what it trains on
    lost    why another one failed, in one line: the first one passes it on
    done/N  process N has done its part
    used/N  what process N has used so far, as its meter tells it
    over    the first one has left
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn, Protocol

import torch.distributed as dist

from retrainer.errors import UserError
from retrainer.settings import Compute
from retrainer.training._distributed import LEFT_ALONE, Group, connection_lost, joined
from retrainer.training._worker import brief, take_part
from retrainer.training.inputs import Inputs, Settings

_LOOK_SECONDS = 0.5
# An error of all is the first one's to tell, which others that have failed give it so long: torchrun ends it
# as soon as one of them has left.
_GRACE_SECONDS = 20.0
# For the first one to leave the call that waits for a lost one.
_WAKE_SECONDS = 6.0
_LINGER_SECONDS = 3.0
# For a process that has computed its last share.
_END_SECONDS = 60.0
# Between two messages of what a process has used, in looks.
_LOOKS_A_MESSAGE = 10
_GO_ON = "the same command goes on from the last checkpoint, if any"


class Meter(Protocol):
    """Measures what a process uses; the first one's adds what the others tell it."""

    def told(self) -> str: ...

    def hear(self, rank: int, told: str) -> None: ...


class Launched(NamedTuple):
    """What torchrun's environment says. `attempt` counts the restarts that torchrun was allowed."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    attempt: int

    @property
    def group(self) -> Group:
        return Group(self.rank, self.size, (self.local_rank, self.local_size))

    def require(self, settings: Settings) -> None:
        """Raises UserError where the settings want something else: in the first process, to be told once."""
        wrong = ""
        if settings.compute.processes != self.size:
            wrong = (
                f"compute.processes: {settings.compute.processes}, but torchrun has started {self.size};"
                f" set compute.processes: {self.size}, as their number changes the model"
            )
        if settings.training.command:
            wrong = "training.command: torchrun has started this; start the step alone, and torchrun in it"
        if wrong:
            raise UserError(wrong) if self.rank == 0 else SystemExit(2)


@contextmanager
def first(launched: Launched, meter: Meter, compute: Compute, digest: str) -> Iterator[Group]:
    """Inside, all are one group, and this process its first. Raises UserError when another one is lost."""
    store, over = _store(launched), threading.Event()
    store.set("first", digest)
    watch = (store.clone(), over, launched, meter)
    threading.Thread(target=_watch, args=watch, daemon=True, name="group-watch").start()
    try:
        with joined(store, launched.group, compute):
            yield launched.group
            with suppress(RuntimeError):  # the model is what counts
                others = [f"done/{rank}" for rank in range(1, launched.size)]
                store.wait(others, timedelta(seconds=_END_SECONDS))
                _hear(store, launched, meter)
    except RuntimeError as error:
        if not connection_lost(error):
            raise
        # torchrun ends us too, in a moment: what is to be told comes first.
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        told = _lost(store) or f"one of {launched.size} processes is lost, torchrun says how; {_GO_ON}"
        raise UserError(told) from None
    finally:
        over.set()
        with suppress(RuntimeError):
            store.set("over", "")


def follow(launched: Launched, inputs: Inputs, meter: Meter) -> None:
    """Another process's part. It ends the process when that fails, or when the first one has left."""
    done = threading.Event()
    store = None
    try:
        digest = inputs.digest()
        store = _store(launched)
        watch = (store.clone(), done, launched, meter)
        threading.Thread(target=_end_with_first, args=watch, daemon=True).start()
        with joined(store, launched.group, inputs.settings.compute):
            # The first one may have a checkpoint to write, for which it needs us.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            if store.get("first").decode() != digest:
                raise UserError("its data, settings, weights or code are not those of the first process")
            take_part(inputs, launched.group)
            done.set()
            store.set(f"used/{launched.rank}", meter.told())
            store.set(f"done/{launched.rank}", "")
    except Exception as error:
        _fail(launched, store, error)


def _store(launched: Launched) -> Any:
    store, _, _ = next(dist.rendezvous("env://", launched.rank, launched.size))
    return dist.PrefixStore(f"retrainer/{launched.attempt}", store)


def _lost(store: Any) -> str:
    with suppress(RuntimeError):
        if store.check(["lost"]):
            return str(store.get("lost").decode())
    return ""


def _hear(store: Any, launched: Launched, meter: Meter) -> None:
    for rank in range(1, launched.size):
        with suppress(RuntimeError):
            if store.check([f"used/{rank}"]):
                meter.hear(rank, store.get(f"used/{rank}").decode())


def _watch(store: Any, over: threading.Event, launched: Launched, meter: Meter) -> None:
    """Ends the first process when another one has failed, and the call that waits for it does not return."""
    for look in itertools.count(1):
        if over.wait(_LOOK_SECONDS):
            return
        if look % _LOOKS_A_MESSAGE == 0:
            _hear(store, launched, meter)
        lost = _lost(store)
        if lost and not over.wait(_WAKE_SECONDS):
            os.write(2, f"\ntrain: {lost}\n".encode())
            os._exit(1)


def _end_with_first(store: Any, done: threading.Event, launched: Launched, meter: Meter) -> None:
    for look in itertools.count(1):
        if done.wait(_LOOK_SECONDS):
            return
        if _over(store):
            _leave()
        if look % _LOOKS_A_MESSAGE == 0:
            with suppress(RuntimeError):
                store.set(f"used/{launched.rank}", meter.told())


def _leave() -> NoReturn:
    """Ends a process behind the first one, which torchrun would otherwise end before it has said why."""
    time.sleep(_LINGER_SECONDS)
    os._exit(LEFT_ALONE)


def _over(store: Any) -> bool:
    """Whether the first process has left, or nobody is there to say."""
    try:
        return bool(store.check(["over"]))
    except RuntimeError:
        return True


def _fail(launched: Launched, store: Any, error: Exception) -> NoReturn:
    """Ends this process. Its line is the first one's to print; without a first one, the second one's."""
    alone = connection_lost(error)
    why = f"the connection to the others is lost; {_GO_ON}" if alone else brief(error)
    line = f"process {launched.rank} of {launched.size} (compute.processes): {why}"
    there = False
    if store is not None:
        with suppress(RuntimeError):
            if not alone:
                store.set("lost", line)
            end = time.monotonic() + _GRACE_SECONDS
            while time.monotonic() < end:
                if store.check(["over"]):
                    _leave()
                time.sleep(0.1)
            there = store.check(["first"])
    if launched.rank == 1 if alone else not there:
        os.write(2, f"train: {line}\n".encode())
    os._exit(1)
