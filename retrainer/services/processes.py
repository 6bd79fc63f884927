"""Names of processes, by which another process can tell whether they live.

HOST:BOOT/SPACE:PID:BEGAN. A host's name proves nothing: pods that share their node's network, containers and
cloned machines go by one name and have several process tables. Two processes see each other where the boot id
of their kernel and their PID namespace are the same (proc(5), namespaces(7)); HOST is there for people. BEGAN
is counted in clock ticks since the boot, which no change of the clock moves.
"""

from __future__ import annotations

import os
import socket
import sys
import uuid
from functools import cache
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SPACE = Path("/proc/self/ns/pid")
# In /proc/PID/stat, counted after the command's name, which may hold spaces and brackets.
_START_TICKS = 19


def this_process() -> str:
    return f"{socket.gethostname()}:{_where()}:{os.getpid()}:{_began(os.getpid())}"


def is_here(name: str) -> bool:
    """Whether the process that `this_process` named so would be seen from here, if it lived."""
    parts = name.split(":")
    return len(parts) == 4 and parts[1] == _where()


def is_gone(name: str) -> bool:
    """Whether the process could be seen from here, and has ended. Of any other nothing is known: False."""
    if not is_here(name):
        return False
    _, _, number, began = name.split(":")
    if not (number.isdecimal() and int(number) > 0 and began.isdecimal()):
        return False
    try:
        os.kill(int(number), 0)
        return _began(int(number)) not in ("", began)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # another user's
        return _began(int(number)) not in ("", began)


@cache
def _where() -> str:
    if sys.platform != "linux":
        return f"{uuid.getnode():012x}/0"
    try:
        return f"{_BOOT.read_text().strip()}/{_SPACE.stat().st_ino}"
    except OSError:  # a sandbox that hides them: a place that nobody else is in
        return f"{uuid.uuid4()}/0"


def _began(number: int) -> str:
    """Ticks since the boot; empty where they cannot be read. Elsewhere than on Linux, seconds since 1970."""
    try:
        if sys.platform == "linux":
            return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[_START_TICKS]
        import psutil

        return f"{psutil.Process(number).create_time():.0f}"
    except Exception:  # gone meanwhile, or hidden from us
        return ""
