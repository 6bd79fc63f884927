"""Programs and containers that end with the run they serve, however it ends: return, Ctrl-C or kill -9.

This is the run's side. What starts and ends them is the process of `guard.py`, at the other end of a pipe.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from retrainer.errors import ServiceError

_GUARD = "pipelines.containers.guard"
_START_SECONDS = 60.0
_LOG_LINES = 5


class Background:
    """The run's end of the pipe. Environments travel through it, never through a command line."""

    def __enter__(self) -> Self:
        self._guard = subprocess.Popen(
            [sys.executable, "-m", _GUARD],
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
            raise ServiceError(f"{command[0]} cannot be started: {reason}")
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
        raise ServiceError(f"{log.stem} did not start; {log} ends: {tail}")

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
