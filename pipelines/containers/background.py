"""Programs and containers that end with the run they serve, however it ends: return, Ctrl-C or kill -9.

`python -m pipelines.containers.background` is the guard, adopted by init, in a session of its own: no signal
meant for the run reaches it. It starts programs on request (one JSON a line), and when the pipe from the run
closes it removes the run's containers and ends the programs, last started first.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from retrainer.errors import UserError

_PATIENCE_SECONDS = 5.0
_START_SECONDS = 60.0
_LOG_LINES = 5


class Background:
    """The run's end of the pipe. Environments travel through it, never through a command line."""

    def __enter__(self) -> Self:
        self._guard = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
            text=True,
        )
        self.scratch = Path(self._hear()["scratch"])  # a short path, removed in the end
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._guard.stdin and self._guard.stdout
        with self._guard, contextlib.suppress(BrokenPipeError):
            self._guard.stdin.close()
            self._guard.stdout.read()  # until the guard has cleaned up and ended

    def start(self, command: list[str], environment: dict[str, str], log: Path) -> int:
        """Starts a program that writes into `log`; returns its number. Raises UserError when it cannot."""
        answer = self._ask(start=command, environment=environment, log=str(log.absolute()))
        if reason := answer.get("error"):
            raise UserError(f"{command[0]} cannot be started: {reason}")
        return int(answer["number"])

    def guard_containers(self, host: str, label: str) -> None:
        """Has the containers that carry `label` removed from the engine at `host` in the end."""
        self._ask(host=host, label=label)

    def wait_until(self, number: int, ready: Callable[[], bool], log: Path) -> None:
        """Until the program is ready. Raises UserError with its log's end when it ends first, or never is."""
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._ask(poll=number)["exit"] is None:
            if ready():
                return
            time.sleep(0.05)
        tail = " / ".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
        raise UserError(f"{log.stem} did not start; {log} ends: {tail}")

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._guard.stdin
        self._guard.stdin.write(json.dumps(request) + "\n")
        self._guard.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._guard.stdout
        line = self._guard.stdout.readline()
        if not line:
            raise RuntimeError("the process that guards the background programs has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def answers(address: str) -> bool:
    """Whether the HTTP address answers, be it with an error."""
    try:
        with urllib.request.urlopen(address, timeout=1):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


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
        from pipelines.containers.docker_api import remove_labelled

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
