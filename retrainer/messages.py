"""Messages of the library go through Python's logging, and the command lines print them.

The loggers are `retrainer.ingest`, `retrainer.train`, `retrainer.evaluate`, `retrainer.register`,
`retrainer.notify`, and `retrainer.services` for servers that are asked again. In a program that uses the
library they are silent until it configures logging.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_ALL = "retrainer"
# What evaluate says stands above its closing table, which is a program's answer.
_ON_STDOUT = f"{_ALL}.evaluate"
_OF_NO_STEP = f"{_ALL}.services"


def logger(name: str) -> logging.Logger:
    """The logger of a step's messages, which do not name the step; or that of the services."""
    return _ours().getChild(name)


def _ours() -> logging.Logger:
    ours = logging.getLogger(_ALL)
    if not ours.handlers:  # else Python would print warnings by itself
        ours.addHandler(logging.NullHandler())
    return ours


@contextmanager
def printed_messages() -> Iterator[None]:
    """For command lines: inside, messages are printed as `step: message`, on stderr but for evaluate's.

    Services have no step: theirs are printed as they are. A command line inside another adds nothing.
    """
    ours, terminal = _ours(), _Terminal(logging.INFO)
    if any(isinstance(each, _Terminal) for each in ours.handlers):
        yield
        return
    level, propagate = ours.level, ours.propagate
    ours.setLevel(logging.INFO)
    ours.propagate = False
    ours.addHandler(terminal)
    try:
        yield
    finally:
        ours.removeHandler(terminal)
        ours.propagate = propagate
        ours.setLevel(level)


class _Terminal(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout if record.name == _ON_STDOUT else sys.stderr
        step = record.name.removeprefix(f"{_ALL}.").partition(".")[0]
        line = record.getMessage() if record.name == _OF_NO_STEP else f"{step}: {record.getMessage()}"
        if "tqdm" in sys.modules:  # there may be a bar in the terminal's last line
            from tqdm import tqdm

            tqdm.write(line, file=stream)
        else:
            print(line, file=stream)
        stream.flush()
