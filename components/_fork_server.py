"""A process that has imported what steps need, and forks one process for each step of a `make pipeline`.

    python -m components._fork_server SOCKET PARENT FAMILY MODULE …

Importing torch, Transformers, scikit-learn and MLflow takes longer than many a step's work. Here they are
imported once, while DVC and the first steps are at work. It imports and does nothing else, so that what it
forks is as a process of its own would be: no thread of Python's, no random number drawn, no GPU looked for.
Linux alone: docs/decisions/0042-steps-are-forked.md says why.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import json
import os
import selectors
import signal
import socket
import struct
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from components._forked import ALL, READY, SERVER

_REQUEST_BYTES = 1 << 20
_REQUEST_SECONDS = 10.0
# Process, user and group at the other end: three ints, as Linux has them.
_PEER = (socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
# While the one runs, the other may begin: `ahead` in its component says what.
_NEXT = {"evaluate": "register"}
_PR_SET_PDEATHSIG = 1
Work = Callable[[], int]


class Server:
    """Serves steps one after another, or beside each other, until whoever started it ends it."""

    def __init__(self, listening: socket.socket, family: str) -> None:
        self._listening, self._family = listening, family
        self._begun: dict[str, _Begun] = {}
        self._clients: set[socket.socket] = set()
        self._all_imported = False
        self._later: list[socket.socket] = []
        self._waiting = selectors.DefaultSelector()
        self._waiting.register(listening, selectors.EVENT_READ, self._accept)

    def serve(self, modules: Sequence[str]) -> Work:
        """Imports the modules, and serves between any two of them. Returns in a forked process: its work."""
        for name in modules:
            with suppress(Exception):  # the step that needs it says what is wrong
                importlib.import_module(name)
            if work := self._answer(wait=False):
                return work
        self._all_imported = True
        for client in self._later:
            if work := self._take(client):
                return work
        while True:
            if work := self._answer(wait=True):
                return work

    def _answer(self, wait: bool) -> Work | None:
        while events := self._waiting.select(None if wait else 0):
            for key, _ in events:
                if work := key.data(key.fileobj):
                    return work
        return None

    def _accept(self, listening: socket.socket) -> Work | None:
        client, _ = listening.accept()
        self._clients.add(client)
        client.settimeout(_REQUEST_SECONDS)
        with suppress(OSError):
            if client.recv(1) == ALL and not self._all_imported:
                self._later.append(client)
                return None
        return self._take(client)

    def _take(self, client: socket.socket) -> Work | None:
        """In a forked process: its work. A client that has not the time to wait goes before it asks."""
        try:
            client.sendall(READY)
            asked, files = _received(client)
        except (OSError, ValueError):
            self._close(client)
            return None
        pid, step = struct.unpack("3i", client.getsockopt(*_PEER))[0], asked["words"][0]
        asked["client"] = pid
        begun = self._begun.pop(step, None)
        if begun is None or not begun.takes(asked, files):
            pid = _fork()
            if pid == 0:
                self._forget()
                return lambda: _run(asked, files)
            begun = _Begun(pid)
        for file in files:
            os.close(file)
        self._watch(begun.pid, client)
        return self._begin(_NEXT.get(step, ""))

    def _begin(self, step: str) -> Work | None:
        """In the process of the step that comes next, which begins ahead: its work."""
        if not step:
            return None
        ours, theirs = socket.socketpair()
        pid = _fork()
        if pid == 0:
            ours.close()
            self._forget()
            return lambda: _run_begun(step, self._family, theirs)
        theirs.close()
        self._begun[step] = _Begun(pid, ours)
        return None

    def _forget(self) -> None:
        """In a forked process: what is the server's alone."""
        self._waiting.close()
        asking = [begun.asks for begun in self._begun.values() if begun.asks]
        for one in (self._listening, *self._clients, *asking):
            one.close()

    def _close(self, client: socket.socket) -> None:
        self._clients.remove(client)
        client.close()

    def _watch(self, pid: int, client: socket.socket) -> None:
        with suppress(OSError):
            client.sendall(f"{pid}\n".encode())

        def ended(handle: int) -> None:
            self._waiting.unregister(handle)
            os.close(handle)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with suppress(OSError):
                client.sendall(f"{status}\n".encode())
            self._close(client)

        self._waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, ended)


def _fork() -> int:
    gc.freeze()  # else the first collection in the new process would copy every page
    with warnings.catch_warnings():
        # Python 3.12 and later warn of threads: OpenBLAS ends its own before a fork (by pthread_atfork).
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


@dataclass
class _Begun:
    """A process that runs a step, or waits until it is asked for it."""

    pid: int
    asks: socket.socket | None = None

    def takes(self, asked: dict[str, Any], files: list[int]) -> bool:
        assert self.asks is not None
        try:
            socket.send_fds(self.asks, [b" "], files)
            self.asks.sendall(json.dumps(asked).encode() + b"\n")
        except OSError:  # it has ended
            return False
        finally:
            self.asks.close()
        return True


def _received(asks: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What is asked, and the client's standard input, output and errors. Raises ValueError when it went."""
    text, files, _, _ = socket.recv_fds(asks, _REQUEST_BYTES, 3)
    while not text.endswith(b"\n"):
        more = asks.recv(_REQUEST_BYTES)
        if not more:
            raise ValueError("whoever asks has gone")
        text += more
    asked: dict[str, Any] = json.loads(text)
    return asked, files


def _run(asked: dict[str, Any], files: list[int]) -> int:
    """In a forked process: the step, as if the client ran it."""
    from components._process import leaving_nothing_behind
    from components.command import main as run_step

    _become(asked, files)
    with leaving_nothing_behind():
        return run_step(asked["words"])


def _run_begun(step: str, family: str, asks: socket.socket) -> int:
    """In the process of a step that begins ahead: the same, or 1 where nobody asks."""
    from components._process import leaving_nothing_behind
    from components.command import main as run_step

    with leaving_nothing_behind(), importlib.import_module(f"components.{step}").ahead(family):
        try:
            asked, files = _received(asks)
        except (OSError, ValueError):
            return 1
        _become(asked, files)
        return run_step(asked["words"])


def _become(asked: dict[str, Any], files: list[int]) -> None:
    """The client's directory, environment and streams, and a process group of its own."""
    from components._process import die_with_runner

    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    os.chdir(asked["directory"])
    os.environ.clear()
    os.environ.update({name: value for name, value in asked["environment"].items() if name != SERVER})
    die_with_runner(str(asked["client"]))


def main(listening: str, parent: str, family: str, *modules: str) -> int:
    from components._process import wait_briefly
    from retrainer.services.connection import settle_environment

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # when PARENT ends, however it ends
    if os.getppid() != int(parent):
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the steps
    wait_briefly()
    settle_environment()
    return Server(socket.socket(fileno=int(listening)), family).serve(modules)()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
