"""A process that has imported what steps need, and forks one process for each step of a `make pipeline`.

    python -m components._fork_server SOCKET PARENT MODULE …

Importing torch, Transformers, scikit-learn and MLflow takes longer than many a step's work. Here they are
imported once, while DVC and the first steps are at work. It imports and does nothing else, so that what it
forks is as a process of its own would be: no thread of Python's, no random number drawn, no GPU looked for.
Linux alone: docs/decisions/0035-steps-are-forked.md says why.
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
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from components._forked import ALL, READY, SERVER

_REQUEST_BYTES = 1 << 20
_REQUEST_SECONDS = 10.0
# Process, user and group at the other end: three ints, as Linux has them.
_CREDENTIALS = struct.calcsize("3i")
_PR_SET_PDEATHSIG = 1
Work = Callable[[], int]


class Server:
    """Serves steps one after another, or beside each other, until whoever started it ends it."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
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
            if work := self._fork(client):
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
        client.settimeout(_REQUEST_SECONDS)
        with suppress(OSError):
            if client.recv(1) == ALL and not self._all_imported:
                self._later.append(client)
                return None
        return self._fork(client)

    def _fork(self, client: socket.socket) -> Work | None:
        """In the forked process: its work. A client that has not the time to wait goes before it asks."""
        try:
            client.sendall(READY)
            asked, files = _request(client)
        except (OSError, ValueError):
            client.close()
            return None
        gc.freeze()  # else the first collection in the new process would copy every page
        pid = os.fork()
        if pid == 0:
            self._waiting.close()
            self._listening.close()
            client.close()
            return lambda: _become(asked, files)
        for file in files:
            os.close(file)
        self._watch(pid, client)
        return None

    def _watch(self, pid: int, client: socket.socket) -> None:
        with suppress(OSError):
            client.sendall(f"{pid}\n".encode())

        def ended(handle: int) -> None:
            self._waiting.unregister(handle)
            os.close(handle)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with suppress(OSError):
                client.sendall(f"{status}\n".encode())
            client.close()

        self._waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, ended)


def _request(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What is asked, and the client's standard input, output and errors, and the client's process."""
    text, files, _, _ = socket.recv_fds(client, _REQUEST_BYTES, 3)
    while not text.endswith(b"\n"):
        more = client.recv(_REQUEST_BYTES)
        if not more:
            raise ValueError("the client went")
        text += more
    pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS))
    return json.loads(text) | {"client": pid}, files


def _become(asked: dict[str, Any], files: list[int]) -> int:
    """In the forked process: what the client would have been."""
    from components._process import die_with_runner, leaving_nothing_behind
    from components.command import main as run_step

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
    with leaving_nothing_behind():
        return run_step(asked["words"])


def main(listening: str, parent: str, *modules: str) -> int:
    from components._process import wait_briefly
    from retrainer.services.connection import settle_environment

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # when PARENT ends, however it ends
    if os.getppid() != int(parent):
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the steps
    wait_briefly()
    settle_environment()
    return Server(socket.socket(fileno=int(listening))).serve(modules)()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
