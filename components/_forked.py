"""The client of `components._fork_server`: hands a step over to it, and ends as the step does.

It imports nothing but the standard library: what it saves is the time of imports.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

# Where `make pipeline` listens for steps; none elsewhere.
SERVER = "RETRAINER_STEPS"
ALL, SOME, READY = b"a", b"s", b"."
# These steps need most of what the server imports, and wait until it has. For the others a process of their
# own is up sooner than an import of torch has ended.
NEED_ALL = ("train", "evaluate")
_ALL_SECONDS = 300.0
_BRIEFLY_SECONDS = 0.3
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def forked(words: list[str]) -> int | None:
    """Has the server run the step, and returns its exit status; None where no server takes it."""
    path = os.environ.get(SERVER)
    if not path or not words:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        try:
            return _run(server, words) if _taken(server, path, words[0]) else None
        except KeyboardInterrupt:  # before there is a step to pass it on to
            print(f"{words[0]}: interrupted", file=sys.stderr)
            return 130


def _taken(server: socket.socket, path: str, step: str) -> bool:
    """Whether the server takes the step; if not, there is none any more, or it is busy."""
    needs_all = step in NEED_ALL
    server.settimeout(_ALL_SECONDS if needs_all else _BRIEFLY_SECONDS)
    with suppress(OSError):
        server.connect(path)
        server.sendall(ALL if needs_all else SOME)
        return server.recv(1) == READY
    return False


def _run(server: socket.socket, words: list[str]) -> int:
    """A server that ends before it tells how the step ended was killed, and the step with it."""
    server.settimeout(None)
    asked = {"words": words, "environment": dict(os.environ), "directory": str(Path.cwd())}
    socket.send_fds(server, [b" "], [0, 1, 2])
    server.sendall(json.dumps(asked).encode() + b"\n")
    answers = server.makefile("r", encoding="utf-8")
    step = int(answers.readline() or 0)
    if step:
        _pass_signals_on(step)
    told = answers.readline()
    if not told:
        print(f"{words[0]}: the process that starts the steps was killed", file=sys.stderr)
        return 1
    status = int(told)
    if status < 0:  # by a signal: ended as the step itself
        with suppress(OSError):  # SIGKILL has no other handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _pass_signals_on(step: int) -> None:
    """The step is in a process group of its own, so that each signal reaches it once, and by this way."""

    def pass_on(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(step, number)

    def stop(number: int, _: FrameType | None) -> None:
        pass_on(number, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        pass_on(signal.SIGCONT, None)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    signal.signal(signal.SIGTSTP, stop)
