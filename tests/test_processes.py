"""Whether a process has ended is said of those alone that can be seen from here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from retrainer.services import processes
from retrainer.services.processes import is_gone, is_here, this_process
from tests.conftest import ROOT

NAME = "from retrainer.services.processes import this_process; print(this_process(), flush=True)"


def test_a_process_is_gone_when_it_has_ended() -> None:
    code = f"{NAME}; input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        name = child.stdout.readline().strip()  # type: ignore[union-attr]
        assert is_here(name) and not is_gone(name)
        child.communicate("\n")
    assert is_here(name) and is_gone(name)
    assert not is_gone(this_process())


def test_another_process_with_the_same_number_is_not_taken_for_it() -> None:
    name, began = this_process().rsplit(":", 1)
    assert is_gone(f"{name}:{int(began) - 1}")


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root can make a PID namespace")
def test_a_container_of_the_same_host_name_is_another_place() -> None:
    """As two pods with hostNetwork: one name, two process tables."""
    inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", NAME]
    made = subprocess.run(inside, capture_output=True, text=True, cwd=ROOT, check=False)
    if made.returncode:
        pytest.skip(f"no namespaces here: {made.stderr}")
    name = made.stdout.strip()
    assert name.startswith(f"{socket.gethostname()}:") and not is_here(name) and not is_gone(name)


def test_another_boot_is_another_place() -> None:
    """As a cloned machine, or this one before it was started anew."""
    host, where, number, _ = this_process().split(":")
    _, _, space = where.rpartition("/")
    assert not is_gone(f"{host}:00000000-0000-0000-0000-000000000000/{space}:{number}:1")


def test_a_clock_that_is_set_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is made of nothing that a clock moves."""
    import psutil

    name = this_process()
    monkeypatch.setattr(psutil, "boot_time", lambda: 0.0)
    monkeypatch.setattr(processes.os, "getpid", os.getpid)
    assert this_process() == name and not is_gone(name)
    assert name.rsplit(":", 1)[1] == Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]


@pytest.mark.parametrize("end", ["", "x", "a:b", "one:2", "-1:2", "0:2", "99999999999999999999:1", "1:then"])
def test_what_names_no_process_is_not_known_to_be_gone(end: str) -> None:
    host, where, *_ = this_process().split(":")
    overflow = end.startswith("9")
    assert is_gone(f"{host}:{where}:{end}") == overflow
    assert not is_gone(end)
    assert not is_gone(f"{host}:{os.getpid()}:1"), "as it was written before"
