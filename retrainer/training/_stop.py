"""SIGTERM and Ctrl-C while a model trains: the step under way is finished first, and what is done is kept."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import NoReturn, Self

# Kubernetes kills 30 s after its SIGTERM, by default; we promise 20.
_LEAVE_SECONDS = 18.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_UNTOLD = "the same command goes on from the last checkpoint, if any"


class Stop:
    """`with Stop() as stop:` turns SIGTERM into exit status 143, and Ctrl-C into 130, within 20 s.

    Outside `stop.held()` the block is left at once. Inside, the signal is noted in `stop.asked`, and whoever
    holds it leaves by `stop.leave(…)` as soon as nothing is half done. A second Ctrl-C does not wait.
    Elsewhere than in the main thread, where Python takes no signals, it does nothing.
    """

    def __init__(self, leave_seconds: float = _LEAVE_SECONDS) -> None:
        self.asked: signal.Signals | None = None
        self._leave_seconds = leave_seconds
        self._held = False
        self._message = _UNTOLD
        self._before: dict[signal.Signals, signal._HANDLER] = {}
        # A thread that waits from the start: a signal's handler must not take the locks of starting one.
        self._signalled, self._left = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            threading.Thread(target=self._exit_late, daemon=True, name="stop-watch").start()
            # What the one who started us had us ignore (nohup, a job in the background) stays ignored.
            taken = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in taken}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._left.set()
        self._signalled.set()
        # Not before: until here a bar may stand in the terminal's last line.
        if kind is SystemExit and self.asked is not None:
            print(self._told(), file=sys.stderr, flush=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, a signal waits; one that nobody has looked at ends the process behind the block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.asked is not None:
            raise SystemExit(128 + self.asked)

    def leave(self, message: str) -> NoReturn:
        """Ends the process by the signal's exit status; `message` is told in one line at the end."""
        assert self.asked is not None
        self._message = message
        raise SystemExit(128 + self.asked)

    def _told(self) -> str:
        assert self.asked is not None
        return f"train: stopped by {self.asked.name}; {self._message}"

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        first, self.asked = self.asked is None, signal.Signals(number)
        if first:
            self._signalled.set()
        interrupted = number == signal.SIGINT
        if interrupted and not (first and self._held):
            raise KeyboardInterrupt
        if not self._held and first:
            raise SystemExit(128 + number)

    def _exit_late(self) -> None:
        """A server that hangs, or a step of half a minute, must not use up the time that we are given."""
        self._signalled.wait()
        if not self._left.wait(self._leave_seconds) and self.asked is not None:
            os.write(2, f"\n{self._told()}\n".encode())
            os._exit(128 + self.asked)
