"""A user's own trainer: any program that reads the dataset directory and writes the model directory."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

from retrainer.errors import SettingError
from retrainer.formats.files import write_json

_TAIL_BYTES = 4096
_TAIL_LINES = 5
_GRACE_SECONDS = 10.0


def run_command(command: str, dataset: Path, model: Path, sections: dict[str, dict[str, Any]]) -> None:
    """Runs `command --dataset DIR --model DIR --settings FILE`, its output passed on as it comes.

    No shell is involved; `python` means the Python that runs this. FILE is JSON: section → settings.
    The environment is passed on as it is, and the program is ended with us. Raises UserError when it
    cannot be started or exits with another status than 0.
    """
    words = shlex.split(command)
    if words[:1] in (["python"], ["python3"]):
        words[0] = sys.executable
    with tempfile.TemporaryDirectory() as aside:
        settings = Path(aside) / "settings.json"
        write_json(settings, sections)
        words += ["--dataset", str(dataset), "--model", str(model), "--settings", str(settings)]
        try:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except OSError as error:
            raise SettingError(f"training.command: cannot start {words[0]!r}: {error.strerror}") from None
        with process, _ended_with_us(process):
            tail = _pass_on(process)
    if process.returncode:
        last = " | ".join(tail.decode(errors="replace").split("\n")[-_TAIL_LINES:]).strip()
        raise SettingError(f"training.command ended with status {process.returncode}: {last or 'no output'}")


def _pass_on(process: subprocess.Popen[bytes]) -> bytes:
    """Copies the output to stderr until the program ends; returns its last bytes."""
    assert process.stdout is not None
    tail = bytearray()
    reader = threading.Thread(target=_copy, args=(process.stdout, tail), daemon=True)
    reader.start()
    process.wait()
    # Something it left behind may hold the pipe open for ever: what is there by now is all that we wait for.
    reader.join(timeout=1)
    return bytes(tail).rstrip()


def _copy(stream: IO[bytes], tail: bytearray) -> None:
    while data := os.read(stream.fileno(), 65_536):
        sys.stderr.write(data.decode(errors="replace"))
        sys.stderr.flush()
        tail += data
        del tail[:-_TAIL_BYTES]


@contextmanager
def _ended_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ends `process` when the block is left early, by Ctrl-C, SIGTERM or any error."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _leave) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_SECONDS)
            process.kill()


def _leave(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise SystemExit(128 + number)
