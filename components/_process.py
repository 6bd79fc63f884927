"""How a step's process ends: with the one that started it, and with one line for a failure."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Iterator

from retrainer.errors import UserError

_POLL_SECONDS = 0.5
_PR_SET_CHILD_SUBREAPER = 36
# Python's own helper: it ends when this process does, and before that others may still need it.
_RESOURCE_TRACKER = "multiprocessing.resource_tracker"


def wait_briefly() -> None:
    """How OpenMP's threads wait for each other, unless the environment says it.

    By default they spin, and beside other busy processes a training becomes many times slower; where they
    sleep at once, waking them costs more than a small network's work. GNU's OpenMP, which torch has on Linux,
    can spin for some microseconds and then sleep; others know the policy alone. Read when torch is imported,
    which no process of a step does before this. benchmarks/README.md has the figures.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        setting = ("GOMP_SPINCOUNT", "10000") if sys.platform == "linux" else ("OMP_WAIT_POLICY", "PASSIVE")
        os.environ.setdefault(*setting)


def die_with_runner(pid: str | None) -> None:
    """Ends this process at once when the process `pid` ends, however it ends.

    DVC starts a step through a shell, so the kernel's parent-death signal would reach the shell alone:
    killing `make pipeline` would leave the training running while a second one starts.
    """
    if not pid:
        return
    watch = threading.Thread(target=_exit_after, args=(int(pid),), daemon=True, name="runner-watch")
    watch.start()


def _exit_after(pid: int) -> None:
    try:
        if hasattr(os, "pidfd_open"):
            handle = os.pidfd_open(pid)
            select.select([handle], [], [])
        else:
            while True:
                os.kill(pid, 0)
                time.sleep(_POLL_SECONDS)
    except ProcessLookupError:
        pass
    _kill_children()
    os._exit(143)


def _kill_children() -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


@contextlib.contextmanager
def leaving_nothing_behind() -> Iterator[None]:
    """Ends, behind the block, every process that it started and left, also one in a session of its own.

    Kubeflow's launcher waits until nobody holds the step's output any more (KFP 2.17, backend/src/v2/
    component/launcher_v2.go:699): a process left behind would keep the pod.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # orphans become our children
    try:
        yield
    finally:
        with contextlib.suppress(ChildProcessError):  # which says that there is no child
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            _end_children()


def _end_children() -> None:
    import psutil

    gc.collect()  # objects that end their processes when they go, and that an error's traceback held
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = child.cmdline()
            if words and not any(_RESOURCE_TRACKER in word for word in words):  # none: it has ended already
                print(
                    f"ending a process that the step left behind: {words[0]} ({child.pid})", file=sys.stderr
                )
                child.kill()


# DVC and MLflow pass on the text alone, of the operating system and of SQLite.
_FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")
NO_ROOM = (
    "the disk is full; `make doctor` says how much is free. Make room (`make clean`, or"
    " `.venv/bin/dvc gc --workspace` for data and models that no recipe uses now), then run the same again"
)


def is_full_disk(message: str) -> bool:
    return any(text in message for text in _FULL)


def _chain(error: BaseException | None) -> str:
    """Its message, and those of what caused it."""
    messages = []
    while error is not None:
        messages.append(str(error))
        error = error.__cause__ or error.__context__
    return " ".join(messages)


def report_failure(step: str, error: BaseException) -> int:
    """Prints what went wrong, in one line unless DEBUG=1, and returns the exit status."""
    if os.environ.get("DEBUG") == "1":
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        print(f"{step}: interrupted", file=sys.stderr)
        return 130
    if isinstance(error, UserError):
        print(f"{step}: {error}", file=sys.stderr)
        return 2
    message = " ".join(str(error).split()) or "no message"
    if is_full_disk(_chain(error)):
        print(f"{step}: {NO_ROOM} ({message})", file=sys.stderr)
        return 2
    print(f"{step}: {type(error).__name__}: {message} (DEBUG=1 shows the traceback)", file=sys.stderr)
    return 1
