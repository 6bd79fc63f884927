"""`python -m pipelines.containers.guard`: it ends what a run has started, however that ends.

Adopted by init, in a session of its own: no signal meant for the run reaches it. It starts programs on
request (one JSON a line), and when the pipe from the run closes it removes the run's containers and ends the
programs, last started first.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PATIENCE_SECONDS = 5.0


class _Guard:
    """Holds what was started. A line of the pipe is one request, and gets one line for an answer."""

    def __init__(self) -> None:
        self.programs: list[subprocess.Popen[bytes]] = []
        self.containers: list[tuple[str, str]] = []

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "poll" in request:
            return {"exit": self.programs[request["poll"]].poll()}
        if "label" in request:
            self.containers.append((request["host"], request["label"]))
            return {}
        try:
            self._start(request)
        except OSError as error:
            return {"error": str(error)}
        return {"number": len(self.programs) - 1}

    def _start(self, request: dict[str, Any]) -> None:
        with Path(request["log"]).open("ab") as log:
            started = subprocess.Popen(
                request["start"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=request["environment"],
                cwd=Path(request["log"]).parent,
                start_new_session=True,
            )
        self.programs.append(started)

    def clean_up(self) -> None:
        from pipelines.containers.docker_api import remove_labelled  # not needed to begin

        for host, label in self.containers:
            try:
                remove_labelled(host, label)
            except Exception as error:  # whatever the engine says, the programs must end
                print(f"containers may be left: {' '.join(str(error).split())}", file=sys.stderr)
        for program in reversed(self.programs):
            with _group_killed(program.pid), contextlib.suppress(subprocess.TimeoutExpired):
                program.terminate()
                program.wait(_PATIENCE_SECONDS)


@contextmanager
def _group_killed(leader: int) -> Iterator[None]:
    """Whatever of the program's process group outlives the block is killed."""
    yield
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def main() -> None:
    if os.fork():
        os._exit(0)  # the run may kill its children, and this one must outlive it
    guard = _Guard()
    with tempfile.TemporaryDirectory(prefix="retrainer-") as scratch:
        _say({"scratch": scratch})
        for line in sys.stdin:
            _say(guard.answer(json.loads(line)))
        guard.clean_up()


def _say(answer: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the run was killed: its pipe ends next
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
