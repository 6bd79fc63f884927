"""Contenders in processes of their own, which nothing else has warmed, tuned or filled."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.gpu._measure import Speed

_PACKAGE = "benchmarks.gpu"


def preload(modules: Iterable[str]) -> None:
    """Modules that later processes find imported. To be called before the first of them is started."""
    _context().set_forkserver_preload([_full(name) for name in modules])


def apart(call: str, arguments: tuple[Any, ...], seconds: float) -> dict[str, Any]:
    """What `module:function` returns in a process of its own. `failed` says why there is nothing.

    Processes are forked from a server that has imported modules and never looked for a GPU.
    """
    return begun(call, arguments)(seconds)


def begun(call: str, arguments: tuple[Any, ...]) -> Callable[[float], dict[str, Any]]:
    """Starts such a process; what is returned waits for it, so many seconds at most, and ends it."""
    ours, theirs = _context().Pipe(duplex=False)
    process = _context().Process(target=_run, args=(theirs, call, arguments))
    process.start()
    theirs.close()
    return lambda seconds: _ended(process, ours, seconds)


def _ended(process: Any, ours: Connection, seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {"failed": f"not done in {seconds:.0f} s"}
    try:
        if ours.poll(seconds):
            found = ours.recv()
    except EOFError:
        process.join()
        found = {"failed": f"its process ended with status {process.exitcode}"}
    process.kill()
    process.join()
    return found


def _context() -> Any:
    return multiprocessing.get_context("forkserver")


def _full(name: str) -> str:
    return f"{_PACKAGE}.{name}" if name.startswith("_") else name


def _run(pipe: Connection, call: str, arguments: tuple[Any, ...]) -> None:
    module, _, function = call.partition(":")
    try:
        found = getattr(importlib.import_module(_full(module)), function)(*arguments)
        pipe.send(found.plain() if isinstance(found, Speed) else found)
    except Exception as error:
        pipe.send({"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
