"""A server that has imported what steps need, and forks for each step: each is a process of its own.

Importing torch, Transformers, scikit-learn and MLflow takes a step longer than many a step's work. Here they are
imported once for all steps of one `make pipeline`, while DVC and the first steps are at work. Where a GPU is, no
such server is started: a process that has looked for GPUs cannot be forked.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from components._forked import READY, SERVER

_REQUEST_BYTES = 1 << 20
_REQUEST_SECONDS = 10.0


class Server:
    """Serves steps one after another, or beside each other, until whoever started it ends it."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._waiting = selectors.DefaultSelector()
        self._waiting.register(listening, selectors.EVENT_READ, self._accept)

    def serve(self, modules: Sequence[str]) -> Callable[[], int]:
        """Imports the modules, and serves between any two of them. Returns in a forked process: its work."""
        for name in [*modules, None]:
            while events := self._waiting.select(None if name is None else 0):
                for key, _ in events:
                    if step := key.data(key.fileobj):
                        return step
            with suppress(Exception):  # the step that needs it says what is wrong
                importlib.import_module(name)
        raise AssertionError("it waits for ever")

    def _accept(self, listening: socket.socket) -> Callable[[], int] | None:
        """In the forked process: its work. A client that has not the time to wait goes before it asks."""
        client, _ = listening.accept()
        client.settimeout(_REQUEST_SECONDS)
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
            listening.close()
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
    pid, _, _ = _peer(client)
    return json.loads(text) | {"client": pid}, files


def _peer(client: socket.socket) -> tuple[int, int, int]:
    """Process, user and group at the other end."""
    told = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return tuple(int.from_bytes(told[at : at + 4], sys.byteorder) for at in (0, 4, 8))  # type: ignore[return-value]


def _become(asked: dict[str, Any], files: list[int]) -> int:
    """In the forked process: what the client would have been."""
    from components._process import die_with_runner, leaving_nothing_behind
    from components.command import main

    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=stream is sys.stderr or stream.isatty())
    os.chdir(asked["directory"])
    os.environ.clear()
    os.environ.update({name: value for name, value in asked["environment"].items() if name != SERVER})
    die_with_runner(str(asked["client"]))
    with leaving_nothing_behind():
        return main(asked["words"])


def start(listening: int, modules: Sequence[str]) -> int:
    from components._process import wait_briefly

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the steps
    wait_briefly()
    return Server(socket.socket(fileno=listening)).serve(modules)()


if __name__ == "__main__":
    sys.exit(start(int(sys.argv[1]), sys.argv[2:]))
